//! The options that say how destinations are reached, and what they and the environment come to. Names and meanings are curl's.

use persist_core::{Credentials, Fields};
use persist_proxy::{NoProxy, Plain, Proxies, Proxy, ProxyKind};

/// `-x` and its relatives.
#[derive(Debug, Default, clap::Args)]
pub(super) struct ProxyOptions {
    /// Go through this proxy: [KIND://][USER:PASSWORD@]HOST[:PORT], of kind http (the default), https, socks4a, socks5 (names resolved here) or socks5h (by the proxy); "" for none
    #[arg(short = 'x', long, value_name = "PROXY")]
    proxy: Option<String>,
    /// The same with socks4a://
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with = "proxy")]
    socks4a: Option<String>,
    /// The same with socks5://
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with_all = ["proxy", "socks4a"])]
    socks5: Option<String>,
    /// The same with socks5h://
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with_all = ["proxy", "socks4a", "socks5"])]
    socks5_hostname: Option<String>,
    /// Reach the proxy through this one (socks5:// without a scheme)
    #[arg(long, value_name = "PROXY")]
    preproxy: Option<String>,
    /// User and password for the proxy
    #[arg(short = 'U', long, value_name = "USER:PASSWORD")]
    proxy_user: Option<String>,
    /// Have an HTTP proxy tunnel http:// as well
    #[arg(short = 'p', long)]
    proxytunnel: bool,
    /// Add a field to what an HTTP proxy is asked for a tunnel with
    #[arg(long = "proxy-header", value_name = "FIELD")]
    proxy_headers: Vec<String>,
    /// Reach these hosts without a proxy, instead of those in the variable no_proxy
    #[arg(long, value_name = "LIST")]
    noproxy: Option<String>,
}

impl ProxyOptions {
    /// The proxies: those that the options name, or else those of the environment, of which `variable` gives each variable.
    ///
    /// # Errors
    /// What is wrong, for a person, without any credential.
    pub(super) fn proxies(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Proxies, String> {
        let exceptions = match &self.noproxy {
            Some(list) => NoProxy::parse(list),
            None => NoProxy::from_variables(&variable),
        };
        let proxies = match self.named()? {
            Some(proxy) => proxy.map_or_else(Proxies::none, Proxies::all),
            None => Proxies::from_variables(variable).map_err(|error| error.to_string())?,
        };
        proxies.map(|proxy| self.complete(proxy)).map(|proxies| proxies.except(exceptions))
    }

    /// `Some(None)`: explicitly none.
    fn named(&self) -> Result<Option<Option<Proxy>>, String> {
        let options = [
            ("-x", &self.proxy, ProxyKind::Http),
            ("--socks4a", &self.socks4a, ProxyKind::Socks4a),
            ("--socks5", &self.socks5, ProxyKind::Socks5),
            ("--socks5-hostname", &self.socks5_hostname, ProxyKind::Socks5h),
        ];
        for (option, value, kind) in options {
            if let Some(text) = value {
                return Ok(Some(if text.is_empty() { None } else { Some(parse(option, text, kind)?) }));
            }
        }
        Ok(None)
    }

    /// With everything else that was said about proxies.
    fn complete(&self, mut proxy: Proxy) -> Result<Proxy, String> {
        if let Some(user) = &self.proxy_user {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            let credentials = Credentials { user: user.to_owned(), password: password.to_owned() };
            proxy = proxy.with_credentials(credentials).map_err(|error| format!("--proxy-user: {error}"))?;
        }
        if self.proxytunnel {
            proxy = proxy.with_plain(Plain::Tunnelled);
        }
        if !self.proxy_headers.is_empty() && proxy.kind().is_http() {
            let fields = fields(&self.proxy_headers)?;
            proxy = proxy.with_connect_fields(fields).map_err(|error| format!("--proxy-header: {error}"))?;
        }
        match &self.preproxy {
            Some(text) => Ok(proxy.via(parse("--preproxy", text, ProxyKind::Socks5)?)),
            None => Ok(proxy),
        }
    }
}

/// The value is not repeated in what is said about it: it may hold a password.
fn parse(option: &str, text: &str, kind: ProxyKind) -> Result<Proxy, String> {
    Proxy::parse(text.trim(), kind).map_err(|error| format!("{option}: {error}"))
}

fn fields(lines: &[String]) -> Result<Fields, String> {
    let mut fields = Fields::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("--proxy-header: a field is `Name: value`")?;
        fields.push(name, value.trim()).map_err(|error| format!("--proxy-header: {error}"))?;
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(options: &ProxyOptions, environment: &[(&str, &str)], url: &str) -> String {
        let variable =
            |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let proxies = options.proxies(variable).expect("the options are in order");
        let proxy = proxies.proxy_for(&url.parse().expect("a destination"));
        proxy.map_or_else(|| "direct".to_owned(), |proxy| format!("{proxy:?}"))
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn an_option_comes_before_the_environment_and_both_heed_the_exceptions() {
        let environment = [("http_proxy", "http://e"), ("no_proxy", "inner")];
        let none = ProxyOptions::default();
        assert_eq!(chosen(&none, &environment, "http://x"), "Proxy(http://e:1080)");
        assert_eq!(chosen(&none, &environment, "https://x"), "direct");
        let given = ProxyOptions { socks5_hostname: text("s:9"), ..none };
        assert_eq!(chosen(&given, &environment, "https://x"), "Proxy(socks5h://s:9)");
        // curl heeds the variable here, too.
        assert_eq!(chosen(&given, &environment, "https://a.inner"), "direct");
        let all = ProxyOptions { noproxy: text(""), ..given };
        assert_eq!(chosen(&all, &environment, "https://a.inner"), "Proxy(socks5h://s:9)");
        let off = ProxyOptions { proxy: text(""), ..ProxyOptions::default() };
        assert_eq!(chosen(&off, &environment, "http://x"), "direct");
    }

    #[test]
    fn user_tunnel_and_preproxy_go_to_whichever_proxy_it_is() {
        let options = ProxyOptions {
            proxy_user: text("me:secret"),
            preproxy: text("near"),
            proxytunnel: true,
            proxy_headers: vec!["X: y".to_owned()],
            ..ProxyOptions::default()
        };
        let environment = [("all_proxy", "http://e")];
        let expected = "Proxy(http://e:1080, with credentials) through Proxy(socks5://near:1080)";
        assert_eq!(chosen(&options, &environment, "http://x"), expected);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_value() {
        let wrong = [
            ProxyOptions { proxy: text("gopher://me:secret@p"), ..ProxyOptions::default() },
            ProxyOptions { proxy: text("http://me:secret@p:x"), ..ProxyOptions::default() },
            ProxyOptions { proxy: text("p"), proxy_user: text("me:secret\n"), ..ProxyOptions::default() },
            ProxyOptions { proxy: text("p"), preproxy: text("http://me:secret@"), ..ProxyOptions::default() },
            ProxyOptions { proxy: text("p"), proxy_headers: vec!["secret".to_owned()], ..ProxyOptions::default() },
        ];
        for options in wrong {
            let error = options.proxies(|_| None).expect_err("something is wrong");
            assert!(error.starts_with("-") && !error.contains("secret"), "{error}");
        }
    }
}
