"""The second tab: what a folder of shards or a report tells."""

import streamlit as st


def show(settings: object) -> None:
    st.write("soon")
