"""Probes on a vision-language model's hidden states that tell, before it answers, how likely the answer is wrong.

The public names stand in `__init__.pyi`; each is imported when it is first asked for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
