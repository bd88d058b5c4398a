//! `/kv/KEY`: read, write and delete one key; `/kv/?prefix=…`: list.
//!
//! The key is everything after `/kv/`, percent-decoded to any bytes; the value is the raw body.

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use serde_json::json;

use super::{Api, answer::Failure};
use crate::kv::{
    command::{Command, Compare, Delete, Operation, Put, Relation, Step, Target, Txn},
    service::{Consistency, KvError, REQUEST_BYTES_MAX},
    store::{KeyValue, prefix_end},
};

const LIST_MAX: usize = 1000;

pub(super) async fn handle(State(api): State<Api>, request: Request) -> Response {
    let uri = request.uri().clone();
    let key = match decode_key(uri.path().strip_prefix("/kv/").unwrap_or_default()) {
        Ok(key) => key,
        Err(failure) => return failure.into_response(),
    };
    let (parts, body) = request.into_parts();
    let (method, headers) = (parts.method, parts.headers);
    let answer = match method {
        Method::GET | Method::HEAD if key.is_empty() => list(&api, &uri).await,
        Method::GET | Method::HEAD => read(&api, key, &uri, method == Method::HEAD).await,
        _ if key.is_empty() => Err(Failure::bad_request("the key is empty")),
        Method::PUT => put(&api, key, &headers, &uri, body).await,
        Method::DELETE => delete(&api, key, &headers, &uri).await,
        _ => {
            let message = "use GET, HEAD, PUT or DELETE";
            Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message))
        }
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

fn decode_key(text: &str) -> Result<Bytes, Failure> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(
            value
                .ok_or_else(|| Failure::bad_request("a '%' in the key is not followed by two hex digits"))?,
        );
        rest = &rest[2..];
    }
    Ok(out.into())
}

struct Query {
    prefix: Bytes,
    limit: usize,
    after: Option<Bytes>,
    consistency: Consistency,
}

fn query(uri: &Uri) -> Result<Query, Failure> {
    let mut query =
        Query { prefix: Bytes::new(), limit: 100, after: None, consistency: Consistency::default() };
    for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode_key(&value.replace('+', "%20"))?;
        match name {
            "prefix" => query.prefix = value,
            "after" => query.after = Some(value),
            "limit" => {
                let limit = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
                let limit = limit.filter(|limit| (1..=LIST_MAX).contains(limit));
                query.limit = limit.ok_or_else(|| {
                    Failure::bad_request(format!("limit must be a number from 1 to {LIST_MAX}"))
                })?;
            }
            "consistency" => {
                query.consistency = match &value[..] {
                    b"linearizable" => Consistency::Linearizable,
                    b"lease" => Consistency::Lease,
                    b"serializable" => Consistency::Serializable,
                    _ => {
                        return Err(Failure::bad_request(
                            "consistency must be linearizable, lease or serializable",
                        ));
                    }
                };
            }
            _ => {
                let message =
                    format!("unknown parameter '{name}'; known are prefix, limit, after and consistency");
                return Err(Failure::bad_request(message));
            }
        }
    }
    Ok(query)
}

async fn read(api: &Api, key: Bytes, uri: &Uri, head: bool) -> Result<Response, Failure> {
    let consistency = query(uri)?.consistency;
    let found = api.kv.read(consistency, |store| (store.revision(), store.get(&key))).await;
    let (revision, found) = found.map_err(|error| Failure::of_read(api, &error, uri))?;
    let Some(kv) = found else {
        let mut response =
            Failure::new(StatusCode::NOT_FOUND, "key_not_found", "key not found").into_response();
        response.headers_mut().insert("x-kv-revision", revision.into());
        return Ok(response);
    };
    let length = kv.value.len();
    let mut response = Response::new(if head { Body::empty() } else { Body::from(kv.value) });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, length.into());
    if let Ok(tag) = http::HeaderValue::from_str(&format!("\"{}\"", kv.mod_revision)) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert("x-kv-revision", revision.into());
    headers.insert("x-kv-mod-revision", kv.mod_revision.into());
    headers.insert("x-kv-version", kv.version.into());
    Ok(response)
}

async fn list(api: &Api, uri: &Uri) -> Result<Response, Failure> {
    let query = query(uri)?;
    let mut from = query.prefix.clone();
    if from.is_empty() {
        from = Bytes::from_static(&[0]);
    }
    if let Some(after) = &query.after {
        // The smallest key above `after`.
        from = from.max([&after[..], &[0]].concat().into());
    }
    let end = prefix_end(&query.prefix);
    let read = api
        .kv
        .read(query.consistency, |store| (store.revision(), store.range(&from, &end, 0, query.limit + 1)))
        .await;
    let (revision, found) = read.map_err(|error| Failure::of_read(api, &error, uri))?;
    let mut found = found.map_err(Failure::bad_request)?;
    let more = found.len() > query.limit;
    found.truncate(query.limit);
    let kvs: Vec<_> = found.iter().map(describe).collect();
    Ok(Json(json!({ "kvs": kvs, "more": more, "revision": revision })).into_response())
}

fn describe(kv: &KeyValue) -> serde_json::Value {
    let encode = |bytes: &Bytes| base64::engine::general_purpose::STANDARD.encode(bytes);
    let mut described = json!({
        "key": String::from_utf8_lossy(&kv.key),
        "value": encode(&kv.value),
        "create_revision": kv.create_revision,
        "mod_revision": kv.mod_revision,
        "version": kv.version,
    });
    if std::str::from_utf8(&kv.key).is_err() {
        described["key_base64"] = encode(&kv.key).into();
    }
    described
}

/// What the conditional headers demand of the key.
fn conditions(headers: &HeaderMap, key: &Bytes) -> Result<Vec<Compare>, Failure> {
    let compare = |target: Target, relation: Relation, number| Compare {
        key: key.clone(),
        target: target.into(),
        relation: relation.into(),
        number,
        value: Bytes::new(),
    };
    let mut compares = Vec::new();
    if let Some(tag) = headers.get(header::IF_MATCH) {
        if tag == "*" {
            compares.push(compare(Target::Version, Relation::Greater, 0));
        } else {
            let text = tag.to_str().ok().map(|text| text.trim_matches('"'));
            let revision = text.and_then(|text| text.parse().ok());
            let revision =
                revision.ok_or_else(|| Failure::bad_request("if-match must be \"<mod_revision>\" or *"))?;
            compares.push(compare(Target::Mod, Relation::Equal, revision));
        }
    }
    if let Some(tag) = headers.get(header::IF_NONE_MATCH) {
        if tag != "*" {
            return Err(Failure::bad_request("if-none-match must be *"));
        }
        compares.push(compare(Target::Version, Relation::Equal, 0));
    }
    Ok(compares)
}

fn command(headers: &HeaderMap, key: &Bytes, step: Step) -> Result<Command, Failure> {
    let txn = Txn {
        compares: conditions(headers, key)?,
        success: vec![Operation { step: Some(step) }],
        failure: Vec::new(),
    };
    let mut command = Command::txn(txn);
    if let Some(id) = headers.get("idempotency-key") {
        if id.is_empty() || id.len() > 256 {
            return Err(Failure::bad_request("idempotency-key must be 1 to 256 bytes long"));
        }
        command = command.with_request_id(Bytes::copy_from_slice(id.as_bytes()));
    }
    Ok(command)
}

fn condition_failed() -> Failure {
    Failure::new(
        StatusCode::PRECONDITION_FAILED,
        "precondition_failed",
        "the key is not as if-match or if-none-match demand",
    )
}

async fn put(api: &Api, key: Bytes, headers: &HeaderMap, uri: &Uri, body: Body) -> Result<Response, Failure> {
    let value = axum::body::to_bytes(body, REQUEST_BYTES_MAX);
    let value = value.await.map_err(|_| {
        let message = format!("the value is larger than {REQUEST_BYTES_MAX} bytes, or was cut off");
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    })?;
    let step = Step::Put(Put { key: key.clone(), value });
    let answer = write(api, &command(headers, &key, step)?, uri).await?;
    let version = answer.outcomes.first().map_or(0, |outcome| outcome.version);
    if !answer.succeeded {
        return Err(condition_failed());
    }
    Ok(Json(json!({
        "key": String::from_utf8_lossy(&key),
        "revision": answer.revision,
        "version": version,
        "created": version == 1,
    }))
    .into_response())
}

async fn delete(api: &Api, key: Bytes, headers: &HeaderMap, uri: &Uri) -> Result<Response, Failure> {
    let step = Step::Delete(Delete { key: key.clone(), end: Bytes::new() });
    let answer = write(api, &command(headers, &key, step)?, uri).await?;
    if !answer.succeeded {
        return Err(condition_failed());
    }
    let deleted = answer.outcomes.first().map_or(0, |outcome| outcome.deleted);
    let status = if deleted == 0 { StatusCode::NOT_FOUND } else { StatusCode::OK };
    Ok((status, Json(json!({ "deleted": deleted, "revision": answer.revision }))).into_response())
}

async fn write(api: &Api, command: &Command, uri: &Uri) -> Result<crate::kv::command::Answer, Failure> {
    api.kv.write(command).await.map_err(|error: KvError| Failure::of_write(api, &error, uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_percent_decoded_to_any_bytes() {
        assert_eq!(decode_key("a/b%20c%ff").unwrap(), &b"a/b c\xff"[..]);
        assert!(decode_key("a%2").is_err());
        assert!(decode_key("%zz").is_err());
    }
}
