//! The run-record types, statistics over records, and everything that is drawn from a record.
