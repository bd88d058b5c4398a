//! Rules that a deployment may switch on; off by default, because existing clients send empty fields.

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("source is empty: name the origin of the record")]
    EmptySource,
    #[error("data is empty: send a payload")]
    EmptyData,
}

/// Checks one record.
pub(crate) fn check(source: &str, data: &[u8]) -> Result<(), Invalid> {
    if source.is_empty() {
        return Err(Invalid::EmptySource);
    }
    if data.is_empty() {
        return Err(Invalid::EmptyData);
    }
    Ok(())
}
