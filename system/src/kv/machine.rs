//! The store as a replicated state machine: locking, and its form in snapshots.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use bytes::{Buf, BufMut, Bytes};
use parking_lot::RwLock;

use super::store::{Store, Version};
use crate::raft::machine::Machine;

const FORMAT: u64 = 1;
/// Longest field that is believed when a snapshot is read.
const FIELD_BYTES_MAX: usize = 64 << 20;

/// The store behind a lock; readers share it, the log's commands take it for themselves one at a time.
#[derive(Debug, Default)]
pub struct KvMachine {
    store: RwLock<Store>,
}

impl KvMachine {
    /// Reads the state as it is now.
    pub fn read<T>(&self, read: impl FnOnce(&Store) -> T) -> T {
        read(&self.store.read())
    }

    /// Revision and a checksum over the whole state, history included: equal on all members that applied
    /// the same commands.
    #[must_use]
    pub fn hash(&self) -> (i64, u32) {
        struct Hash(u32);
        impl Write for Hash {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = crc32c::crc32c_append(self.0, bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let frozen = self.freeze();
        let mut hash = Hash(0);
        // Hashing a string of bytes cannot fail.
        let _ = Self::write(&frozen, &mut hash);
        (frozen.revision(), hash.0)
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u64_le(bytes.len() as u64);
    out.put_slice(bytes);
}

struct Input<'a>(&'a mut dyn Read);

impl Input<'_> {
    fn u64(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn i64(&mut self) -> io::Result<i64> {
        Ok(self.u64()?.cast_signed())
    }

    fn bytes(&mut self) -> io::Result<Bytes> {
        let length = usize::try_from(self.u64()?).unwrap_or(usize::MAX);
        if length > FIELD_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a field of the snapshot is too long"));
        }
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }

    fn version(&mut self) -> io::Result<Version> {
        let mut fixed = [0; 25];
        self.0.read_exact(&mut fixed)?;
        let mut fixed = &fixed[..];
        let (mod_revision, create_revision, version) =
            (fixed.get_i64_le(), fixed.get_i64_le(), fixed.get_i64_le());
        let value = if fixed.get_u8() == 0 { None } else { Some(self.bytes()?) };
        Ok(Version { mod_revision, create_revision, version, value })
    }
}

impl Machine for KvMachine {
    type Frozen = Store;

    fn apply(&self, _index: u64, command: Bytes) -> Bytes {
        self.store.write().apply(command)
    }

    fn freeze(&self) -> Store {
        self.store.read().clone()
    }

    fn write(store: &Store, out: &mut dyn Write) -> io::Result<()> {
        let mut buffer = Vec::new();
        buffer.put_u64_le(FORMAT);
        buffer.put_i64_le(store.revision);
        buffer.put_i64_le(store.compacted);
        buffer.put_u64_le(u64::from(store.no_space));
        buffer.put_u64_le(store.bytes);
        buffer.put_u64_le(store.keys.len() as u64);
        out.write_all(&buffer)?;
        for (key, history) in &store.keys {
            buffer.clear();
            put_bytes(&mut buffer, key);
            buffer.put_u64_le(history.len() as u64);
            for version in history.iter() {
                buffer.put_i64_le(version.mod_revision);
                buffer.put_i64_le(version.create_revision);
                buffer.put_i64_le(version.version);
                buffer.put_u8(u8::from(version.value.is_some()));
                if let Some(value) = &version.value {
                    put_bytes(&mut buffer, value);
                }
            }
            out.write_all(&buffer)?;
        }
        out.write_all(&(store.changes.len() as u64).to_le_bytes())?;
        for (revision, key) in &store.changes {
            buffer.clear();
            buffer.put_i64_le(*revision);
            put_bytes(&mut buffer, key);
            out.write_all(&buffer)?;
        }
        out.write_all(&(store.answer_order.len() as u64).to_le_bytes())?;
        for id in &store.answer_order {
            buffer.clear();
            put_bytes(&mut buffer, id);
            put_bytes(&mut buffer, store.answers.get(id).map_or(&[], |answer| &answer[..]));
            out.write_all(&buffer)?;
        }
        Ok(())
    }

    fn restore(&self, input: &mut dyn Read) -> io::Result<()> {
        let mut input = Input(input);
        if input.u64()? != FORMAT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the snapshot's format is not known"));
        }
        let mut store = Store {
            revision: input.i64()?,
            compacted: input.i64()?,
            no_space: input.u64()? != 0,
            bytes: input.u64()?,
            ..Store::default()
        };
        for _ in 0..input.u64()? {
            let key = input.bytes()?;
            let count = input.u64()?;
            let history = (0..count).map(|_| input.version()).collect::<io::Result<Vec<_>>>()?;
            store.keys.insert(key, Arc::new(history));
        }
        for _ in 0..input.u64()? {
            let revision = input.i64()?;
            let key = input.bytes()?;
            // The same bytes as in the map, not a second copy of every key.
            let key = store.keys.get_key_value(&key).map_or(key.clone(), |(stored, _)| stored.clone());
            store.changes.push_back((revision, key));
        }
        for _ in 0..input.u64()? {
            let (id, answer) = (input.bytes()?, input.bytes()?);
            store.remember(id, answer);
        }
        *self.store.write() = store;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::command::Command;

    #[test]
    fn a_restored_state_hashes_like_its_origin() {
        let machine = KvMachine::default();
        for index in 0..100u64 {
            let command = match index % 7 {
                0 => Command::delete(format!("k{}", index % 3)),
                _ => {
                    Command::put(format!("k{}", index % 10), vec![0; 100]).with_request_id(index.to_string())
                }
            };
            machine.apply(index, command.encode_bytes());
        }
        let mut written = Vec::new();
        KvMachine::write(&machine.freeze(), &mut written).unwrap();
        let other = KvMachine::default();
        other.restore(&mut &written[..]).unwrap();
        assert_eq!(machine.hash(), other.hash());
        assert_eq!(machine.read(Store::revision), other.read(Store::revision));
        KvMachine::default().restore(&mut &written[..written.len() - 1]).unwrap_err();
    }

    #[test]
    fn a_frozen_state_stays() {
        let machine = KvMachine::default();
        machine.apply(0, Command::put("a", "1").encode_bytes());
        let frozen = machine.freeze();
        machine.apply(1, Command::put("a", "2").encode_bytes());
        assert_eq!(frozen.get(&"a".into()).unwrap().value, "1");
    }
}
