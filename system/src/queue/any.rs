//! One type for whichever backend the settings name.
//!
//! [`AnyQueue`] and its publisher, subscriber and delivery are enums over the backends of this crate, so a
//! program that learns its backend at run time keeps the traits' promises: no boxed future and no
//! allocation is added per message. [`SingleQueue`] is the same without the composite, whose children it is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "kafka")]
use super::kafka::Kafka;
#[cfg(feature = "nats")]
use super::nats::Nats;
use super::{
    AckError, Completions, Composite, Delivery, Depth, Memory, Promise, PublishError, Publisher, Queue,
    QueueError, Statistics, Submitted, SubscribeError, SubscribeOptions, Subscriber, Token,
};
use crate::message::Message;

type PublisherOf<Q> = <Q as Queue>::Publisher;
type SubscriberOf<Q> = <Q as Queue>::Subscriber;
type DeliveryOf<Q> = <SubscriberOf<Q> as Subscriber>::Delivery;

/// Four enums with the same variants, and the queue traits for them.
macro_rules! family {
    (
        $(#[$about:meta])*
        $queue:ident, $publisher:ident, $subscriber:ident, $delivery:ident {
            $($(#[cfg($gate:meta)])? $variant:ident($inner:ty)),+ $(,)?
        }
    ) => {
        $(#[$about])*
        #[derive(Debug)]
        #[expect(missing_docs, reason = "a variant is named after what it holds")]
        pub enum $queue {
            $($(#[cfg($gate)])? $variant($inner)),+
        }

        #[doc = concat!("The publisher of a [`", stringify!($queue), "`].")]
        #[derive(Clone)]
        #[expect(missing_docs, reason = "a variant is named after what it holds")]
        pub enum $publisher {
            $($(#[cfg($gate)])? $variant(PublisherOf<$inner>)),+
        }

        #[doc = concat!("The subscriber of a [`", stringify!($queue), "`], beside a buffer that batches pass through.")]
        #[expect(missing_docs, reason = "a variant is named after what it holds")]
        #[expect(clippy::large_enum_variant, reason = "one of a consumer's life, never moved on the measured path")]
        pub enum $subscriber {
            $($(#[cfg($gate)])? $variant(SubscriberOf<$inner>, Vec<DeliveryOf<$inner>>)),+
        }

        #[doc = concat!("A message delivered by a [`", stringify!($queue), "`].")]
        #[expect(missing_docs, reason = "a variant is named after what it holds")]
        pub enum $delivery {
            $($(#[cfg($gate)])? $variant(DeliveryOf<$inner>)),+
        }

        family!(@debug $publisher { $($(#[cfg($gate)])? $variant),+ });
        family!(@debug $subscriber { $($(#[cfg($gate)])? $variant),+ });
        family!(@debug $delivery { $($(#[cfg($gate)])? $variant),+ });

        $(
            $(#[cfg($gate)])?
            impl From<$inner> for $queue {
                fn from(queue: $inner) -> Self {
                    Self::$variant(queue)
                }
            }
        )+

        impl Queue for $queue {
            type Publisher = $publisher;
            type Subscriber = $subscriber;

            fn backend(&self) -> &'static str {
                match self { $($(#[cfg($gate)])? Self::$variant(inner) => inner.backend()),+ }
            }

            fn promise(&self) -> Promise {
                match self { $($(#[cfg($gate)])? Self::$variant(inner) => inner.promise()),+ }
            }

            async fn publisher(&self, completions: Arc<dyn Completions>) -> Result<$publisher, QueueError> {
                match self {
                    $($(#[cfg($gate)])? Self::$variant(inner) => {
                        inner.publisher(completions).await.map($publisher::$variant)
                    }),+
                }
            }

            async fn subscriber(&self, options: SubscribeOptions) -> Result<$subscriber, QueueError> {
                match self {
                    $($(#[cfg($gate)])? Self::$variant(inner) => {
                        let inner = inner.subscriber(options).await?;
                        Ok($subscriber::$variant(inner, Vec::new()))
                    }),+
                }
            }

            async fn depth(&self) -> Result<Depth, QueueError> {
                match self { $($(#[cfg($gate)])? Self::$variant(inner) => inner.depth().await),+ }
            }

            fn statistics(&self) -> Statistics {
                match self { $($(#[cfg($gate)])? Self::$variant(inner) => inner.statistics()),+ }
            }

            async fn effective_settings(&self) -> Result<BTreeMap<String, String>, QueueError> {
                match self { $($(#[cfg($gate)])? Self::$variant(inner) => inner.effective_settings().await),+ }
            }

            async fn close(&self, deadline: Duration) -> Result<(), QueueError> {
                match self { $($(#[cfg($gate)])? Self::$variant(inner) => inner.close(deadline).await),+ }
            }

            async fn remove(&self) -> Result<(), QueueError> {
                match self { $($(#[cfg($gate)])? Self::$variant(inner) => inner.remove().await),+ }
            }
        }

        impl Publisher for $publisher {
            #[inline]
            async fn publish(&self, message: Message, token: Token) -> Result<Submitted, PublishError> {
                match self { $($(#[cfg($gate)])? Self::$variant(inner) => inner.publish(message, token).await),+ }
            }

            async fn publish_batch(&self, batch: &mut VecDeque<(Message, Token)>) -> Result<usize, PublishError> {
                match self { $($(#[cfg($gate)])? Self::$variant(inner) => inner.publish_batch(batch).await),+ }
            }

            async fn flush(&self, deadline: Duration) -> usize {
                match self { $($(#[cfg($gate)])? Self::$variant(inner) => inner.flush(deadline).await),+ }
            }
        }

        impl Subscriber for $subscriber {
            type Delivery = $delivery;

            #[inline]
            async fn recv(&mut self) -> Result<$delivery, SubscribeError> {
                match self {
                    $($(#[cfg($gate)])? Self::$variant(inner, _) => inner.recv().await.map($delivery::$variant)),+
                }
            }

            async fn recv_batch(
                &mut self,
                max: usize,
                into: &mut Vec<$delivery>,
            ) -> Result<usize, SubscribeError> {
                match self {
                    $($(#[cfg($gate)])? Self::$variant(inner, taken) => {
                        inner.recv_batch(max, taken).await?;
                        let count = taken.len();
                        into.extend(taken.drain(..).map($delivery::$variant));
                        Ok(count)
                    }),+
                }
            }
        }

        impl Delivery for $delivery {
            #[inline]
            fn message(&self) -> &Message {
                match self { $($(#[cfg($gate)])? Self::$variant(inner) => inner.message()),+ }
            }

            fn take_message(&mut self) -> Message {
                match self { $($(#[cfg($gate)])? Self::$variant(inner) => inner.take_message()),+ }
            }

            fn attempt(&self) -> Option<u32> {
                match self { $($(#[cfg($gate)])? Self::$variant(inner) => inner.attempt()),+ }
            }

            #[inline]
            fn redelivered(&self) -> bool {
                match self { $($(#[cfg($gate)])? Self::$variant(inner) => inner.redelivered()),+ }
            }

            #[inline]
            async fn ack(self) -> Result<(), AckError> {
                match self { $($(#[cfg($gate)])? Self::$variant(inner) => inner.ack().await),+ }
            }

            async fn nack(self, delay: Duration) -> Result<(), AckError> {
                match self { $($(#[cfg($gate)])? Self::$variant(inner) => inner.nack(delay).await),+ }
            }
        }
    };
    (@debug $name:ident { $($(#[cfg($gate:meta)])? $variant:ident),+ }) => {
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let variant = match self { $($(#[cfg($gate)])? Self::$variant(..) => stringify!($variant)),+ };
                f.debug_tuple(stringify!($name)).field(&variant).finish()
            }
        }
    };
}

family! {
    /// A queue of one backend.
    SingleQueue, SinglePublisher, SingleSubscriber, SingleDelivery {
        Memory(Memory<Message>),
        #[cfg(feature = "nats")]
        Nats(Nats),
        #[cfg(feature = "kafka")]
        Kafka(Kafka),
    }
}

family! {
    /// A queue of one backend, or a composite of several.
    AnyQueue, AnyPublisher, AnySubscriber, AnyDelivery {
        Single(SingleQueue),
        Composite(Composite<SingleQueue>),
    }
}
