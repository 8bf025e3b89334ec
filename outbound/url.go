package outbound

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// MaxURL is the longest URL that is spoken to, in bytes.
const MaxURL = 2048

// CheckURL says what is wrong with a URL, so that whoever configures it hears at once. It looks nothing up: a name
// that leads to a refused address is found out when it is spoken to, each time anew.
func (c *Client) CheckURL(raw string) error {
	_, err := c.parseURL(raw)
	if err != nil {
		return err
	}
	return nil
}

func (c *Client) parseURL(raw string) (*url.URL, *Error) {
	if len(raw) > MaxURL {
		return nil, &Error{Kind: KindURL, Detail: "it is longer than " + strconv.Itoa(MaxURL) + " bytes"}
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, &Error{Kind: KindURL, Detail: "it is not a valid URL"} // the parser's words quote it
	}
	host := u.Hostname()
	wrong := func(detail string) (*url.URL, *Error) {
		return nil, &Error{Kind: KindURL, Host: host, Detail: detail}
	}
	plain := strings.EqualFold(u.Scheme, "http")
	switch {
	case !plain && !strings.EqualFold(u.Scheme, "https"):
		return wrong("it must begin with https://")
	case host == "" || u.Opaque != "":
		return wrong("it names no host")
	case u.User != nil:
		return wrong("a name or password in a URL is not sent; leave it out")
	case u.Fragment != "" || strings.HasSuffix(raw, "#"):
		return wrong("it must not have a fragment (#…)")
	case plain && len(c.gate.plaintext) == 0:
		return wrong("plain http is not allowed to any address; use https")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return wrong("its port is not within 1 and 65535")
		}
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if err := c.gate.check(addr, plain); err != nil {
			return nil, &Error{Kind: KindAddress, Host: host, Err: err}
		}
	}
	return u, nil
}
