//! How each backend and cluster is started, waited for, broken and stopped.
