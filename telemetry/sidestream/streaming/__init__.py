"""The functions of the streaming guide: `run_stream`, `stream_text` and their kin."""
