//! The content of a request, opened for one try.

use persist_async::Body;
use tokio::fs::File;

use super::failure::Failed;
use super::job::Content;
use crate::exit::Exit;

/// The body for one try: a file is opened anew each time.
pub(super) async fn body(content: &Content) -> Result<Body, Failed> {
    Ok(match content {
        Content::None => Body::empty(),
        Content::Bytes { bytes, chunked: false } => Body::from(bytes.clone()),
        Content::Bytes { bytes, chunked: true } => Body::reader(std::io::Cursor::new(bytes.clone()), None),
        Content::Stdin => Body::reader(tokio::io::stdin(), None),
        Content::File { path, chunked } => {
            let unreadable =
                |error: std::io::Error| Failed::new(format!("reading {}: {error}", path.display()), Exit::Read);
            let file = File::open(path).await.map_err(unreadable)?;
            let metadata = file.metadata().await.map_err(unreadable)?;
            // It can be opened, and only fails when it is read: by then the request has begun.
            if metadata.is_dir() {
                return Err(unreadable(std::io::ErrorKind::IsADirectory.into()));
            }
            // A pipe or a device has no length to declare.
            let len = (metadata.is_file() && !chunked).then_some(metadata.len());
            Body::reader(file, len)
        }
    })
}
