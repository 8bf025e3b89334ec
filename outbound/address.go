package outbound

import (
	"fmt"
	"net/netip"
	"slices"
)

// AddressError says that an address was not spoken to, and why.
type AddressError struct {
	Addr  netip.Addr
	Class string // what kind of address it is, such as "private" or "loopback"; "public" where plain HTTP was the fault
	Plain bool   // it may be spoken to, but not over plain HTTP
}

func (e *AddressError) Error() string {
	if e.Plain {
		return fmt.Sprintf("plain http to %s is refused; use https, or allow plaintext to this address", e.Addr)
	}
	if e.Class == classMetadata {
		return fmt.Sprintf("%s is a metadata service of a cloud; only a prefix of this one address allows it", e.Addr)
	}
	return fmt.Sprintf("%s is a %s address; allow a prefix that holds it if it is meant", e.Addr, e.Class)
}

// Classes of addresses that are not of the public internet.
const (
	classPublic      = "public"
	classMetadata    = "metadata"
	classUnspecified = "unspecified"
	classMulticast   = "multicast"
	classReserved    = "reserved"
)

// metadata are services that hand a machine's own credentials to whoever asks from that machine. Most are in ranges
// that are refused anyway; they have a class of their own because an operator who allows a wide prefix for an
// issuer on the premises does not mean them, and because Azure's has an address like any other.
var metadata = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), // nearly every cloud
	netip.MustParseAddr("169.254.170.2"),   // AWS, containers
	netip.MustParseAddr("169.254.170.23"),  // AWS, pods
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("192.0.0.192"),     // Oracle
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd00:ec2::23"),    // AWS, pods
	netip.MustParseAddr("fd20:ce::254"),    // Google
}

type classified struct {
	prefix netip.Prefix
	class  string
}

// special are the blocks of the IANA registries of special-purpose addresses (RFC 6890) that are no place for a
// server of the public internet. The first match counts.
var special = []classified{
	{netip.MustParsePrefix("0.0.0.0/32"), classUnspecified},
	{netip.MustParsePrefix("0.0.0.0/8"), "this-network"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "carrier-grade NAT"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.0.0.0/24"), classReserved},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation"},
	{netip.MustParsePrefix("192.88.99.0/24"), classReserved}, // relays of 6to4, withdrawn
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarking"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation"},
	{netip.MustParsePrefix("224.0.0.0/4"), classMulticast},
	{netip.MustParsePrefix("255.255.255.255/32"), classMulticast}, // broadcast: for all, like multicast
	{netip.MustParsePrefix("240.0.0.0/4"), classReserved},

	{netip.MustParsePrefix("::/128"), classUnspecified},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "local NAT64"}, // the IPv4 address may sit anywhere in it
	{netip.MustParsePrefix("2001::/23"), classReserved},      // Teredo, ORCHID, benchmarking: no servers
	{netip.MustParsePrefix("2001:db8::/32"), "documentation"},
	{netip.MustParsePrefix("3fff::/20"), "documentation"},
	{netip.MustParsePrefix("fc00::/7"), "unique-local"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("fec0::/10"), "site-local"},
	{netip.MustParsePrefix("ff00::/8"), classMulticast},
}

// globalUnicast is all of IPv6 that is handed out today; whatever is outside is refused without a name.
var globalUnicast = netip.MustParsePrefix("2000::/3")

// carriers are the IPv6 prefixes that carry an IPv4 address, and the byte at which it begins. A gateway takes a
// packet for such an address to the IPv4 one, so that is the one to judge.
var carriers = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12},    // NAT64 (RFC 6052)
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12}, // IPv4-translated (RFC 2765)
	{netip.MustParsePrefix("::/96"), 12},           // IPv4-compatible, withdrawn
	{netip.MustParsePrefix("2002::/16"), 2},        // 6to4 (RFC 3056)
}

// carried is the IPv4 address behind an IPv6 one, or the address itself. The zone goes: it says which wire, not who.
func carried(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() || a.IsUnspecified() || a.IsLoopback() {
		return a
	}
	for _, c := range carriers {
		if c.prefix.Contains(a) {
			b := a.As16()
			return netip.AddrFrom4([4]byte(b[c.at : c.at+4]))
		}
	}
	return a
}

// classOf says what kind of address it is.
func classOf(a netip.Addr) string {
	a = carried(a)
	if slices.Contains(metadata, a) {
		return classMetadata
	}
	for _, s := range special {
		if s.prefix.Contains(a) {
			return s.class
		}
	}
	if a.Is6() && !globalUnicast.Contains(a) {
		return classReserved
	}
	return classPublic
}

// gate is what an operator allows beyond https to the public internet.
type gate struct {
	private   []netip.Prefix
	plaintext []netip.Prefix
}

// check judges one address, as the last thing before the connection is made.
func (g *gate) check(a netip.Addr, plain bool) error {
	class := classOf(a)
	if class == classUnspecified || class == classMulticast {
		return &AddressError{Addr: a, Class: class} // nobody's address: no prefix makes it one
	}
	if plain {
		switch {
		case holds(g.plaintext, a, class):
			return nil
		case class == classPublic || holds(g.private, a, class):
			return &AddressError{Addr: a, Class: class, Plain: true}
		}
		return &AddressError{Addr: a, Class: class}
	}
	if class == classPublic || holds(g.private, a, class) {
		return nil
	}
	return &AddressError{Addr: a, Class: class}
}

func holds(prefixes []netip.Prefix, a netip.Addr, class string) bool {
	plain, behind := a.Unmap().WithZone(""), carried(a)
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool {
		if class == classMetadata && !p.IsSingleIP() {
			return false
		}
		return p.Contains(plain) || p.Contains(behind)
	})
}

// allowed checks the prefixes of an option and returns a copy of them.
func allowed(option string, prefixes []netip.Prefix) ([]netip.Prefix, error) {
	masked := make([]netip.Prefix, 0, len(prefixes))
	for _, p := range prefixes {
		if !p.IsValid() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("%s: %q is no prefix; write 10.0.0.0/8 or fd00::/8", option, p)
		}
		masked = append(masked, p.Masked())
	}
	return masked, nil
}
