//! A request as it goes out on a route: its target, its `Host`, and which fields go no further than a proxy.

use alloc::string::String;

use super::{Route, TargetForm};
use crate::destination::Destination;
use crate::exchange_error::{ExchangeError, Phase};
use crate::field::{Field, FieldValue};
use crate::message::Request;

/// The request's own `Host` names another authority than its URL, and it would go to a proxy.
///
/// A proxy goes by the target and replaces the field (RFC 9112 §3.2.2), so the field could not mean what the caller wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Host field says {field:?}, but the request goes to a proxy, which goes by the url's {authority}")]
pub struct HostDisagrees {
    /// What the field says.
    pub field: String,
    /// What the URL says.
    pub authority: String,
}

impl Route {
    /// The request as it is written on this route: its target in the route's form, `Host` first if it had none, the route's own fields last.
    ///
    /// Two fields are not passed on: `Proxy-Authorization` goes to a proxy that forwards, and nobody else (RFC 9110 §11.7.2), and there
    /// replaces the route's; `Proxy-Connection` goes nowhere (RFC 9112 §C.2.2: proxies that do not know it pass it on, to ill effect).
    ///
    /// ```
    /// use persist_core::{Destination, Request, Route};
    ///
    /// let (destination, target) = Destination::split_url("http://example.com/a")?;
    /// let request = Request::get("http://example.com/a").field("Proxy-Authorization", "Basic eDp5")?;
    /// let written = Route::direct(&destination).request(&request, &destination, &target)?;
    /// assert_eq!((written.target.as_str(), written.fields.len()), ("/a", 1));
    /// assert_eq!(written.fields.get("host").and_then(|host| host.to_str()), Some("example.com"));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`HostDisagrees`] as the cause, in phase `Prepare`: the request's own `Host` contradicts its URL, and a proxy would read both.
    pub fn request(
        &self,
        request: &Request,
        destination: &Destination,
        target: &str,
    ) -> Result<Request, ExchangeError> {
        let form = self.target_form;
        let authority = destination.authority();
        let own_host = request.fields.get("Host");
        if let Some(field) = own_host.filter(|_| form == TargetForm::Absolute)
            && !is_authority(field, destination, &authority)
        {
            let field = String::from_utf8_lossy(field.as_bytes()).into_owned();
            return Err(ExchangeError::new(Phase::Prepare, HostDisagrees { field, authority }).at(destination));
        }
        let mut written = Request::new(request.method.clone(), form.target(&request.method, destination, target));
        if own_host.is_none() {
            // Cannot fail: an authority is made of characters that may stand in a value.
            let _ = written.fields.push("Host", authority);
        }
        let kept = request.fields.iter().filter(|field| form.passes_on(*field));
        let added = self.fields.iter().filter(|field| {
            !(field.name.is("Proxy-Authorization") && request.fields.get("Proxy-Authorization").is_some())
        });
        for field in kept.chain(added) {
            written.fields.push_field(field);
        }
        Ok(written)
    }
}

impl TargetForm {
    fn passes_on(self, field: Field<'_>) -> bool {
        !(field.name.is("Proxy-Connection") || (self == Self::Origin && field.name.is("Proxy-Authorization")))
    }
}

/// Whether `Host` says what the URL does, with or without the scheme's own port.
fn is_authority(field: FieldValue<'_>, destination: &Destination, authority: &str) -> bool {
    let is = |authority: &str| field.as_bytes().eq_ignore_ascii_case(authority.as_bytes());
    is(authority) || is(&destination.authority_with_port())
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use super::*;
    use crate::field::Fields;
    use crate::route::PoolKey;

    fn through_proxy() -> Route {
        let proxy: Destination = "http://proxy:3128".parse().unwrap();
        let mut fields = Fields::new();
        fields.push("Proxy-Authorization", "Basic cm91dGU=").unwrap();
        Route { pool_key: PoolKey::new("proxy"), target_form: TargetForm::Absolute, fields, ..Route::direct(&proxy) }
    }

    fn written(route: &Route, request: &Request) -> Result<(String, Vec<String>), ExchangeError> {
        let (destination, target) = Destination::split_url(&request.target).unwrap();
        let written = route.request(request, &destination, &target)?;
        let line = |field: Field<'_>| alloc::format!("{}: {}", field.name, field.value.to_str().unwrap());
        Ok((written.target, written.fields.iter().map(line).collect()))
    }

    #[test]
    fn what_is_for_a_proxy_reaches_no_origin() {
        let direct = Route::direct(&"http://h".parse().unwrap());
        let request = Request::get("http://h/a").field("Proxy-Authorization", "Basic b3du").unwrap();
        let request = request.field("proxy-connection", "keep-alive").unwrap().field("X", "1").unwrap();
        let (target, fields) = written(&direct, &request).unwrap();
        assert_eq!((target.as_str(), &fields[..]), ("/a", &["Host: h".to_string(), "X: 1".to_string()][..]));
        let (target, fields) = written(&through_proxy(), &request).unwrap();
        assert_eq!(target, "http://h/a");
        assert_eq!(fields, ["Host: h", "Proxy-Authorization: Basic b3du", "X: 1"]);
        let (_, fields) = written(&through_proxy(), &Request::get("http://h/a")).unwrap();
        assert_eq!(fields, ["Host: h", "Proxy-Authorization: Basic cm91dGU="]);
    }

    #[test]
    fn host_and_absolute_target_agree_or_the_request_is_not_sent() {
        let with_host = |host: &str| Request::get("http://h/").field("Host", host).unwrap();
        for same in ["h", "H:80"] {
            assert_eq!(written(&through_proxy(), &with_host(same)).unwrap().1[0], alloc::format!("Host: {same}"));
        }
        let error = written(&through_proxy(), &with_host("other")).unwrap_err();
        let cause = core::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<HostDisagrees>());
        assert_eq!(cause, Some(&HostDisagrees { field: "other".into(), authority: "h".into() }));
        // An origin may be asked for one of its other names.
        let direct = Route::direct(&"http://h".parse().unwrap());
        assert_eq!(written(&direct, &with_host("other")).unwrap().1, ["Host: other"]);
    }
}
