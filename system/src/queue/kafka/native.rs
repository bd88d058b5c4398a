//! The few calls into librdkafka that its safe wrapper lacks. All unsafe code of this crate is here.
//!
//! - [`TopicHandle::produce`]: the wrapper allocates a C string for the topic name per message and one per
//!   header, and looks the topic up each time; a handle does neither.
//! - [`FetchQueue`]: messages in batches and apart from the consumer's events. The wrapper makes one event
//!   per message (0.8 µs) and panics on a header name that is not UTF-8, which any foreign producer may send.
//! - [`message_status`]: whether a failed message may be on the broker all the same.

use std::ffi::{CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::bindings as c;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use super::arena::Arena;
use crate::message::{Headers, Message, MessageId};

/// librdkafka's `RD_KAFKA_PARTITION_UA`: let the partitioner choose. A macro in C, so not in the bindings.
const ANY_PARTITION: i32 = -1;

/// The header that carries [`Message::id`].
pub(super) const MESSAGE_ID: &[u8] = b"message_id";

/// What librdkafka knows of a message whose delivery failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persisted {
    /// It was never sent, or the broker refused it.
    No,
    /// It was sent and the answer never came.
    Possibly,
    /// The broker has it.
    Yes,
}

/// Whether the broker may have the message of a delivery report.
pub(super) fn message_status(message: &BorrowedMessage<'_>) -> Persisted {
    // SAFETY: the pointer is live for as long as the borrowed message, and the call only reads it.
    match unsafe { c::rd_kafka_message_status(message.ptr()) } {
        c::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED => Persisted::No,
        c::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED => Persisted::Possibly,
        c::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_PERSISTED => Persisted::Yes,
    }
}

/// A topic of one producer, looked up once. Keeps the producer alive, so that it cannot outlive it.
pub(super) struct TopicHandle<C: ProducerContext + 'static> {
    topic: NonNull<c::rd_kafka_topic_t>,
    producer: ThreadedProducer<C>,
}

// SAFETY: librdkafka's topic handles may be used from any thread, and the producer is `Send`.
unsafe impl<C: ProducerContext> Send for TopicHandle<C> where ThreadedProducer<C>: Send {}
// SAFETY: as above; producing is thread-safe.
unsafe impl<C: ProducerContext> Sync for TopicHandle<C> where ThreadedProducer<C>: Sync {}

impl<C: ProducerContext> TopicHandle<C> {
    /// Looks `name` up on `producer`.
    pub(super) fn new(producer: ThreadedProducer<C>, name: &str) -> Result<Self, String> {
        let name = CString::new(name).map_err(|_| "topic name holds a NUL byte".to_owned())?;
        let client = producer.client().native_ptr();
        // SAFETY: `client` is alive because `producer` is; a null configuration means the client's own.
        let topic = unsafe { c::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut()) };
        match NonNull::new(topic) {
            Some(topic) => Ok(Self { topic, producer }),
            None => Err(RDKafkaErrorCode::from(last_error()).to_string()),
        }
    }

    /// The producer this topic belongs to.
    pub(super) fn producer(&self) -> &ThreadedProducer<C> {
        &self.producer
    }

    /// Copies a message into the producer's queue. `opaque` comes back with its delivery report.
    pub(super) fn produce(&self, message: &Message, opaque: usize) -> Result<(), RDKafkaErrorCode> {
        let opaque = opaque as *mut c_void;
        let key = (!message.key.is_empty()).then_some(&message.key);
        let key_pointer = key.map_or(ptr::null_mut(), |key| key.as_ptr().cast_mut().cast::<c_void>());
        let key_length = key.map_or(0, Bytes::len);
        let payload = message.payload.as_ptr().cast_mut().cast::<c_void>();
        let Some(headers) = HeaderList::of(message) else {
            // SAFETY: key and payload are read during the call only (`MSG_F_COPY`); the opaque is an integer.
            let result = unsafe {
                c::rd_kafka_produce(
                    self.topic.as_ptr(),
                    ANY_PARTITION,
                    c::RD_KAFKA_MSG_F_COPY,
                    payload,
                    message.payload.len(),
                    key_pointer,
                    key_length,
                    opaque,
                )
            };
            return if result == 0 { Ok(()) } else { Err(last_error().into()) };
        };
        use c::rd_kafka_vtype_t as v;
        // SAFETY: each tag is followed by the arguments librdkafka documents for it, of the same width; the
        // list ends with END; key and payload are copied; the headers pass to librdkafka on success only.
        let error = unsafe {
            c::rd_kafka_producev(
                self.producer.client().native_ptr(),
                v::RD_KAFKA_VTYPE_RKT,
                self.topic.as_ptr(),
                v::RD_KAFKA_VTYPE_MSGFLAGS,
                c::RD_KAFKA_MSG_F_COPY,
                v::RD_KAFKA_VTYPE_VALUE,
                payload,
                message.payload.len(),
                v::RD_KAFKA_VTYPE_KEY,
                key_pointer,
                key_length,
                v::RD_KAFKA_VTYPE_OPAQUE,
                opaque,
                v::RD_KAFKA_VTYPE_HEADERS,
                headers.0.as_ptr(),
                v::RD_KAFKA_VTYPE_END,
            )
        };
        if error == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            std::mem::forget(headers);
            Ok(())
        } else {
            Err(error.into())
        }
    }
}

impl<C: ProducerContext> Drop for TopicHandle<C> {
    fn drop(&mut self) {
        // SAFETY: created by `rd_kafka_topic_new`, destroyed once, before the producer (a later field drop).
        unsafe { c::rd_kafka_topic_destroy(self.topic.as_ptr()) }
    }
}

impl<C: ProducerContext> std::fmt::Debug for TopicHandle<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicHandle").finish_non_exhaustive()
    }
}

fn last_error() -> c::rd_kafka_resp_err_t {
    // SAFETY: reads a thread-local of librdkafka.
    unsafe { c::rd_kafka_last_error() }
}

/// A native header list that is not yet librdkafka's.
struct HeaderList(NonNull<c::rd_kafka_headers_t>);

impl HeaderList {
    /// The headers of a message and its id; `None` when there are none.
    fn of(message: &Message) -> Option<Self> {
        let count = message.headers.len() + usize::from(!message.id.is_empty());
        if count == 0 {
            return None;
        }
        // SAFETY: no preconditions; it never returns null.
        let list = Self(NonNull::new(unsafe { c::rd_kafka_headers_new(count) })?);
        if !message.id.is_empty() {
            list.add(MESSAGE_ID, message.id.as_bytes());
        }
        for (name, value) in &message.headers {
            list.add(name, value);
        }
        Some(list)
    }

    fn add(&self, name: &[u8], value: &[u8]) {
        // SAFETY: both are copied during the call; a slice is never longer than `isize::MAX`. The call
        // fails only for read-only lists, which this is not.
        unsafe {
            c::rd_kafka_header_add(
                self.0.as_ptr(),
                name.as_ptr().cast::<c_char>(),
                name.len().cast_signed(),
                value.as_ptr().cast::<c_void>(),
                value.len().cast_signed(),
            );
        }
    }
}

impl Drop for HeaderList {
    fn drop(&mut self) {
        // SAFETY: still ours, see `produce`.
        unsafe { c::rd_kafka_headers_destroy(self.0.as_ptr()) }
    }
}

/// Where the messages of the partitions routed to it arrive, apart from the consumer's other events.
///
/// Must be dropped before its consumer: the poller owns both and drops them in that order.
#[derive(Debug)]
pub(super) struct Route {
    queue: NonNull<c::rd_kafka_queue_t>,
    client: *mut c::rd_kafka_t,
}

// SAFETY: librdkafka's queue handles may be used from any thread.
unsafe impl Send for Route {}
// SAFETY: as above.
unsafe impl Sync for Route {}

impl Route {
    /// A queue of its own on a live consumer's native client.
    pub(super) fn new<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Self> {
        let client = consumer.client().native_ptr();
        // SAFETY: the client of a live consumer.
        let queue = NonNull::new(unsafe { c::rd_kafka_queue_new(client) })?;
        Some(Self { queue, client })
    }

    /// Sends a partition's messages here instead of to the consumer's common queue. Takes hold when called
    /// before the partition is assigned.
    pub(super) fn take(&self, topic: &str, partition: i32) {
        let Ok(topic) = CString::new(topic) else { return };
        // SAFETY: client and queue are live; the partition's queue handle is released at once, the
        // forwarding itself belongs to the partition.
        unsafe {
            let source = c::rd_kafka_queue_get_partition(self.client, topic.as_ptr(), partition);
            if !source.is_null() {
                c::rd_kafka_queue_forward(source, self.queue.as_ptr());
                c::rd_kafka_queue_destroy(source);
            }
        }
    }

    /// Ends a wait in [`FetchQueue::fetch`] early.
    pub(super) fn interrupt(&self) {
        // SAFETY: the queue is live.
        unsafe { c::rd_kafka_queue_yield(self.queue.as_ptr()) }
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        // SAFETY: created by `rd_kafka_queue_new`, destroyed once.
        unsafe { c::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// One record as fetched, or the error librdkafka put in its place.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) record: Result<Message, RDKafkaErrorCode>,
}

/// Takes messages off a [`Route`] in batches.
#[derive(Debug)]
pub(super) struct FetchQueue {
    route: Arc<Route>,
    pointers: Vec<*mut c::rd_kafka_message_t>,
    arena: Arena,
    /// The raw pointers are only live inside `fetch`; one thread at a time uses this.
    _one_thread: PhantomData<*const ()>,
}

// SAFETY: nothing in it is tied to the thread that made it; `PhantomData` only keeps it from being shared.
unsafe impl Send for FetchQueue {}

impl FetchQueue {
    /// A reader that takes at most `most` messages at a time.
    pub(super) fn new(route: Arc<Route>, most: usize) -> Self {
        Self {
            route,
            pointers: Vec::with_capacity(most.max(1)),
            arena: Arena::default(),
            _one_thread: PhantomData,
        }
    }

    /// Waits for a first message, at most `wait` long, then takes those already here, up to `most` in all,
    /// and appends them.
    pub(super) fn fetch(&mut self, wait: Duration, most: usize, into: &mut Vec<Fetched>) {
        let most = most.min(self.pointers.capacity());
        if most == 0 {
            return;
        }
        let queue = self.route.queue.as_ptr();
        let wait_ms = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
        // The batch call waits until the batch is full, so it never gets time to wait. If the batch call
        // finds nothing, the single one does the waiting.
        // SAFETY: the buffer has room for `most` pointers; librdkafka writes as many as it returns.
        let taken = unsafe {
            let count = c::rd_kafka_consume_batch_queue(queue, 0, self.pointers.as_mut_ptr(), most);
            let count = usize::try_from(count).unwrap_or(0);
            self.pointers.set_len(count);
            if count == 0 && wait_ms > 0 {
                let first = c::rd_kafka_consume_queue(queue, wait_ms);
                if !first.is_null() {
                    self.pointers.push(first);
                }
            }
            &self.pointers
        };
        into.reserve(taken.len());
        for &message in taken {
            // SAFETY: non-null and ours until destroyed; everything read from it is copied before.
            unsafe {
                into.push(convert(&*message, &mut self.arena));
                c::rd_kafka_message_destroy(message);
            }
        }
        self.pointers.clear();
    }
}

/// Copies a record that came through the safe wrapper.
pub(super) fn convert_borrowed(message: &BorrowedMessage<'_>) -> Fetched {
    // SAFETY: the pointer is live for as long as the borrowed message.
    unsafe { convert(&*message.ptr(), &mut Arena::default()) }
}

/// # Safety
/// `message` must be a live message of librdkafka.
unsafe fn convert(message: &c::rd_kafka_message_t, arena: &mut Arena) -> Fetched {
    let (partition, offset) = (message.partition, message.offset);
    if message.err != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Fetched { partition, offset, record: Err(message.err.into()) };
    }
    // SAFETY: librdkafka gives pointers and lengths of live memory; null means absent.
    let (key, payload) =
        unsafe { (bytes_of(message.key, message.key_len), bytes_of(message.payload, message.len)) };
    let (key, payload) = arena.copy_pair(key, payload);
    // SAFETY: as required of this function's caller.
    let (id, headers) = unsafe { headers_of(message, arena) };
    Fetched { partition, offset, record: Ok(Message { id, key, payload, headers }) }
}

/// # Safety
/// `message` must be a live message of librdkafka.
unsafe fn headers_of(message: &c::rd_kafka_message_t, arena: &mut Arena) -> (MessageId, Headers) {
    let (mut id, mut headers) = (MessageId::default(), Headers::new());
    let mut list = ptr::null_mut();
    // SAFETY: writes the list's address or leaves it; the list belongs to the message.
    let found = unsafe { c::rd_kafka_message_headers(message, &raw mut list) };
    if found != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return (id, headers);
    }
    for index in 0.. {
        let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the list is live; the call fails past its end.
        let found = unsafe {
            c::rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut length)
        };
        if found != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            break;
        }
        // SAFETY: a name is a C string, a value is live memory of that length or null.
        let (name, value) =
            unsafe { (std::ffi::CStr::from_ptr(name).to_bytes(), bytes_of(value.cast_mut(), length)) };
        let value = arena.copy(value);
        if name == MESSAGE_ID && id.is_empty() {
            match MessageId::from_utf8(value) {
                Ok(text) => id = text,
                // Not one of ours: kept as an ordinary header.
                Err(value) => headers.push((Bytes::from_static(MESSAGE_ID), value)),
            }
        } else {
            headers.push((arena.copy(name), value));
        }
    }
    (id, headers)
}

/// # Safety
/// `pointer` must be null or point to `length` readable bytes that outlive the result.
unsafe fn bytes_of<'a>(pointer: *mut c_void, length: usize) -> &'a [u8] {
    if pointer.is_null() {
        return &[];
    }
    // SAFETY: as required of this function's caller.
    unsafe { slice::from_raw_parts(pointer.cast::<u8>(), length) }
}
