//! Compiles the protobuf files of the enabled features with protox, so no system `protoc` is needed.

use std::path::PathBuf;

use protox::prost::Message as _;

/// Feature that needs a set of files, the files below `proto/`, and the name of its descriptor set (read by
/// the reflection service through `include_bytes!`).
const PROTOS: &[(&str, &[&str], &str)] =
    &[("PIPELINE", &["diplom/v1/messages.proto", "diplom/v1/ingest.proto"], "pipeline.bin")];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    for (feature, files, descriptor_name) in PROTOS {
        if std::env::var_os(format!("CARGO_FEATURE_{feature}")).is_none() {
            continue;
        }
        let descriptors = protox::compile(*files, ["proto"])?;
        std::fs::write(out.join(descriptor_name), descriptors.encode_to_vec())?;
        tonic_prost_build::configure().compile_fds(descriptors)?;
    }
    Ok(())
}
