//! A proxy before an S3 server that knows the operations: it keeps a list of the calls that come, and a
//! test decides what becomes of each.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    HeadBucket,
    HeadObject,
    GetObject,
    PutObject,
    DeleteObject,
    DeleteObjects,
    ListObjects,
    CreateMultipartUpload,
    UploadPart,
    UploadPartCopy,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
    ListMultipartUploads,
    Other,
}

/// A call that has come.
#[derive(Debug, Clone)]
pub struct Call {
    /// Counted from 0, over all operations.
    pub number: usize,
    pub operation: Operation,
    /// The upload that it is for.
    pub upload: Option<Uuid>,
    /// It came by a presigned URL: from a client.
    pub presigned: bool,
    /// The SDK has sent it, as it says in each of its requests.
    pub by_sdk: bool,
}

/// What becomes of a call instead of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The server never hears of it; the answer is this error.
    Refuse(u16, &'static str),
    /// The connection is cut before the server hears of it.
    LoseRequest,
    /// The server gets half of the body.
    CutRequest,
    /// The server does it; the answer is this error. One in a 200 is what Complete may come to.
    FailAfter(u16, &'static str),
    /// The server does it; the connection is cut before the answer.
    LoseAnswer,
    /// The server does it; half of the body of its answer comes through.
    CutAnswer,
    /// The server never hears of it; the answer is a 200 with this body.
    Pretend(&'static str),
    /// The server never hears of it, and no answer comes until the caller leaves.
    HoldRequest,
    /// The server does it, and no answer comes until the caller leaves.
    HoldAnswer,
    /// All goes well, later.
    Delay(Duration),
    /// All goes well, but nothing is said of checksums.
    HideChecksums,
}

type Judge = Arc<dyn Fn(Call) -> BoxFuture<'static, Option<Fault>> + Send + Sync>;
type Body = BoxBody<Bytes, std::io::Error>;

#[derive(Clone)]
pub struct Proxy(Arc<Inner>);

struct Inner {
    url: Url,
    target: String,
    judge: Mutex<Option<Judge>>,
    calls: Mutex<Vec<Call>>,
    held: watch::Sender<usize>,
}

impl Proxy {
    /// Listens, and passes everything on to `server`.
    pub async fn before(server: &Url) -> Self {
        let target = format!("{}:{}", server.host_str().unwrap(), server.port().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut url = server.clone();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let proxy = Self(Arc::new(Inner {
            url,
            target,
            judge: Mutex::new(None),
            calls: Mutex::default(),
            held: watch::channel(0).0,
        }));
        let serving = proxy.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let proxy = serving.clone();
                tokio::spawn(async move {
                    let answer = service_fn(|request| proxy.pass(request));
                    // A fault that cuts the connection is an error here, and meant.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), answer)
                        .await;
                });
            }
        });
        proxy
    }

    pub fn url(&self) -> Url {
        self.0.url.clone()
    }

    /// From now on `judge` says what becomes of each call.
    pub fn rule(&self, judge: impl Fn(&Call) -> Option<Fault> + Send + Sync + 'static) {
        self.watch(move |call| {
            let fault = judge(&call);
            async move { fault }.boxed()
        });
    }

    /// Like `rule`, for judges that look around first; the call waits for them.
    pub fn watch(
        &self,
        judge: impl Fn(Call) -> BoxFuture<'static, Option<Fault>> + Send + Sync + 'static,
    ) {
        *lock(&self.0.judge) = Some(Arc::new(judge));
    }

    /// From now on everything passes. Calls that are held stay so.
    pub fn pass_all(&self) {
        *lock(&self.0.judge) = None;
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.0.calls).clone()
    }

    /// Begins a new list of calls.
    pub fn forget_calls(&self) {
        lock(&self.0.calls).clear();
    }

    pub fn count(&self, operation: Operation) -> usize {
        self.calls().iter().filter(|call| call.operation == operation).count()
    }

    /// How many calls are or were held; a test waits on it.
    pub fn held(&self) -> watch::Receiver<usize> {
        self.0.held.subscribe()
    }

    fn note(&self, parts: &Parts, body: &[u8]) -> Call {
        let mut calls = lock(&self.0.calls);
        let target = parts.uri.to_string();
        let body = if parts.method == Method::POST { body } else { b"" };
        let upload = upload(&target).or_else(|| upload(&String::from_utf8_lossy(body)));
        let presigned = target.contains("X-Amz-Signature=");
        let by_sdk = parts.headers.contains_key("amz-sdk-request");
        let number = calls.len();
        let call = Call { number, operation: operation(parts), upload, presigned, by_sdk };
        calls.push(call.clone());
        call
    }

    async fn pass(&self, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let call = self.note(&parts, &bytes);
        let judge = lock(&self.0.judge).clone();
        let fault = match judge {
            Some(judge) => judge(call).await,
            None => None,
        };
        match fault {
            Some(Fault::Refuse(status, code)) => return Ok(error(status, code)),
            Some(Fault::Pretend(text)) => return Ok(Response::new(whole(text.into()))),
            Some(Fault::LoseRequest) => return Err(cut()),
            Some(Fault::HoldRequest) => return self.hold().await,
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            _ => {}
        }
        let body = match fault {
            Some(Fault::CutRequest) => halved(bytes).boxed(),
            _ => whole(bytes),
        };
        let answer = self.forward(Request::from_parts(parts, body)).await?;
        match fault {
            Some(Fault::FailAfter(status, code)) => Ok(error(status, code)),
            Some(Fault::LoseAnswer) => Err(cut()),
            Some(Fault::HoldAnswer) => self.hold().await,
            Some(Fault::CutAnswer) => Ok(answer.map(|bytes| halved(bytes).boxed())),
            Some(Fault::HideChecksums) => Ok(without_checksums(answer)),
            _ => Ok(answer.map(whole)),
        }
    }

    async fn hold(&self) -> Result<Response<Body>, std::io::Error> {
        self.0.held.send_modify(|held| *held += 1);
        // Until the caller leaves, which drops this.
        std::future::pending().await
    }

    async fn forward(&self, request: Request<Body>) -> Result<Response<Bytes>, std::io::Error> {
        let other = std::io::Error::other;
        let stream = TcpStream::connect(&self.0.target).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(other)?;
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(other)?;
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.map_err(other)?.to_bytes();
        connection.abort();
        Ok(Response::from_parts(parts, bytes))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error that ends the connection.
fn cut() -> std::io::Error {
    std::io::ErrorKind::ConnectionReset.into()
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// The first half of a body, and then the end of the connection.
fn halved(bytes: Bytes) -> impl hyper::body::Body<Data = Bytes, Error = std::io::Error> {
    let half = bytes.slice(..bytes.len() / 2);
    StreamBody::new(futures::stream::iter([Ok(Frame::data(half)), Err(cut())]))
}

fn error(status: u16, code: &str) -> Response<Body> {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>by the test</Message></Error>"
    );
    let mut answer = Response::builder().status(status).header("content-type", "application/xml");
    if code == "SlowDown" {
        answer = answer.header(RETRY_AFTER, "2");
    }
    answer.body(whole(text.into())).unwrap()
}

fn without_checksums(mut answer: Response<Bytes>) -> Response<Body> {
    let names: Vec<_> = answer.headers().keys().cloned().collect();
    for name in names.iter().filter(|name| name.as_str().starts_with("x-amz-checksum-")) {
        answer.headers_mut().remove(name);
    }
    let xml = answer.headers().get("content-type").is_some_and(|kind| kind == "application/xml");
    if !xml {
        return answer.map(whole);
    }
    let mut text = String::from_utf8_lossy(answer.body()).into_owned();
    while let Some(start) = text.find("<Checksum") {
        let end = start + text[start..].find("</Checksum").unwrap();
        let end = end + text[end..].find('>').unwrap() + 1;
        text.replace_range(start..end, "");
    }
    answer.headers_mut().remove(CONTENT_LENGTH);
    answer.map(|_| whole(text.into()))
}

/// The id in the first key that stands in a text.
fn upload(text: &str) -> Option<Uuid> {
    let text = text.replace("%2F", "/");
    let id = text.split_once("uploads/")?.1;
    id.get(..36)?.parse().ok()
}

fn operation(request: &Parts) -> Operation {
    let query = request.uri.query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let key = request.uri.path().trim_matches('/').contains('/');
    match request.method {
        Method::HEAD if key => Operation::HeadObject,
        Method::HEAD => Operation::HeadBucket,
        Method::GET if has("uploadId") => Operation::ListParts,
        Method::GET if has("uploads") => Operation::ListMultipartUploads,
        Method::GET if key => Operation::GetObject,
        Method::GET => Operation::ListObjects,
        Method::PUT if has("partNumber") => {
            if request.headers.contains_key("x-amz-copy-source") {
                Operation::UploadPartCopy
            } else {
                Operation::UploadPart
            }
        }
        Method::PUT if key => Operation::PutObject,
        Method::POST if has("uploads") => Operation::CreateMultipartUpload,
        Method::POST if has("uploadId") => Operation::CompleteMultipartUpload,
        Method::POST if has("delete") => Operation::DeleteObjects,
        Method::DELETE if has("uploadId") => Operation::AbortMultipartUpload,
        Method::DELETE if key => Operation::DeleteObject,
        _ => Operation::Other,
    }
}
