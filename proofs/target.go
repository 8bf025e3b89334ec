package proofs

import (
	"net/netip"
	"slices"
	"strings"
)

// sameTarget reports whether `htu` means one of the URLs. Both are normalised as RFC 3986 sections 6.2.2 and 6.2.3
// have it, without query and fragment (RFC 9449 section 4.3).
func sameTarget(htu string, urls []string) bool {
	if slices.Contains(urls, htu) {
		return true
	}
	wanted, ok := normalise(htu)
	return ok && slices.ContainsFunc(urls, func(url string) bool {
		normal, ok := normalise(url)
		return ok && normal == wanted
	})
}

// normalise returns the one spelling of an http or https URL: scheme and host in lower case, the scheme's own port
// left out, no escape where none is needed and upper-case digits where one is, no dot segment, never an empty path.
// Whatever a browser and a server might read differently is no URL: user information, an escaped host, a backslash,
// a byte that is not ASCII.
func normalise(url string) (string, bool) {
	for i := 0; i < len(url); i++ {
		if url[i] <= ' ' || url[i] > '~' {
			return "", false
		}
	}
	url, _, _ = strings.Cut(url, "#")
	url, _, _ = strings.Cut(url, "?")
	scheme, rest, ok := strings.Cut(url, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "https" && scheme != "http" {
		return "", false
	}
	slash := strings.IndexByte(rest, '/')
	if slash < 0 {
		slash = len(rest)
	}
	host, ok := normalHost(scheme, rest[:slash])
	if !ok {
		return "", false
	}
	path, ok := normalPath(rest[slash:])
	return scheme + "://" + host + path, ok
}

func normalHost(scheme, authority string) (string, bool) {
	host, port := authority, ""
	if colon := strings.LastIndexByte(authority, ':'); colon > strings.LastIndexByte(authority, ']') {
		host, port = authority[:colon], authority[colon+1:]
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		address, err := netip.ParseAddr(host[1 : len(host)-1])
		if err != nil || !address.Is6() || address.Zone() != "" {
			return "", false
		}
		host = "[" + address.String() + "]"
	} else if !regularName(host) {
		return "", false
	}
	host = strings.ToLower(host)
	if port == "" || scheme == "https" && port == "443" || scheme == "http" && port == "80" {
		return host, true
	}
	if len(port) > 5 || port[0] == '0' || strings.Trim(port, "0123456789") != "" {
		return "", false
	}
	return host + ":" + port, true
}

// regularName reports whether a host is a name as DNS has it, or an IPv4 address.
func regularName(host string) bool {
	for i := 0; i < len(host); i++ {
		if !alphanumeric(host[i]) && strings.IndexByte("-._", host[i]) < 0 {
			return false
		}
	}
	return host != ""
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// normalPath takes a path that is empty or begins with a slash.
func normalPath(path string) (string, bool) {
	var plain strings.Builder
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '%':
			if len(path)-i < 3 || unhex(path[i+1]) < 0 || unhex(path[i+2]) < 0 {
				return "", false
			}
			c = byte(unhex(path[i+1])<<4 | unhex(path[i+2]))
			if unreserved(c) {
				plain.WriteByte(c)
			} else {
				plain.WriteString(strings.ToUpper(path[i : i+3]))
			}
			i += 2
		case unreserved(c) || strings.IndexByte("/!$&'()*+,;=:@", c) >= 0:
			plain.WriteByte(c)
		default:
			return "", false
		}
	}
	// After the first slash, each ".." takes the segment before it away, and "." nothing.
	var kept []string
	segments := strings.Split(strings.TrimPrefix(plain.String(), "/"), "/")
	for i, segment := range segments {
		last := i == len(segments)-1
		switch segment {
		case ".", "..":
			if segment == ".." && len(kept) > 0 {
				kept = kept[:len(kept)-1]
			}
			if last {
				kept = append(kept, "")
			}
		default:
			kept = append(kept, segment)
		}
	}
	return "/" + strings.Join(kept, "/"), true
}

// unreserved characters mean the same escaped or not (RFC 3986 section 2.3).
func unreserved(c byte) bool { return alphanumeric(c) || strings.IndexByte("-._~", c) >= 0 }
