//! Nothing here but the benches beside this file, each named after the module that it measures.
