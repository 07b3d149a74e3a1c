"""Configurations of other mail servers, read and brought into the form of a control directory."""
