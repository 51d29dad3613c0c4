//! A whole service and its witnesses.
