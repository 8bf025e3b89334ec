package outbound

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOnlyThePublicInternetIsSpokenTo(t *testing.T) {
	g := &gate{}
	for class, addresses := range map[string][]string{
		classPublic: {
			"1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.1", "192.0.1.1", "223.255.255.255",
			"2606:4700:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1",
		},
		"loopback": {
			"127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::", "::127.0.0.1", "::ffff:0:127.0.0.1",
		},
		"private": {
			"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
			"::ffff:10.0.0.1", "64:ff9b::192.168.1.1", "2002:a00:1:5::7", "2002:c0a8:101::",
		},
		"link-local":        {"169.254.1.1", "fe80::1", "fe80::1%eth0", "febf::1", "::ffff:169.254.1.1", "2002:a9fe:101::"},
		"unique-local":      {"fc00::1", "fd12:3456::1", "fdff::1"},
		"carrier-grade NAT": {"100.64.0.1", "100.127.255.255", "::ffff:100.64.0.1", "64:ff9b::100.64.0.1"},
		classMetadata: {
			"169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd00:ec2::254%eth0",
			"fd20:ce::254", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::1", "::a9fe:a9fe",
		},
		classUnspecified: {"0.0.0.0", "::", "::ffff:0.0.0.0", "64:ff9b::"},
		classMulticast:   {"224.0.0.1", "239.255.255.255", "255.255.255.255", "ff02::1", "::ffff:224.0.0.1"},
		"this-network":   {"0.1.2.3"},
		"benchmarking":   {"198.18.0.1", "198.19.255.255"},
		"documentation":  {"192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"},
		"local NAT64":    {"64:ff9b:1::a00:1"},
		"site-local":     {"fec0::1"},
		classReserved:    {"240.0.0.1", "192.0.0.1", "192.88.99.1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "100::1", "4000::1", "5f00::1"},
	} {
		for _, address := range addresses {
			addr := netip.MustParseAddr(address)
			require.Equal(t, class, classOf(addr), address)
			err := g.check(addr, false)
			if class == classPublic {
				require.NoError(t, err, address)
			} else {
				require.ErrorContains(t, err, addr.String())
			}
			require.Error(t, g.check(addr, true), "nothing is spoken to in the clear unless it is allowed: %s", address)
		}
	}
}

func TestOperatorAllowsByPrefix(t *testing.T) {
	all := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	some := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd12::/16")}
	alone := []netip.Prefix{netip.MustParsePrefix("169.254.169.254/32")}
	for name, tc := range map[string]struct {
		gate    gate
		address string
		plain   bool
		wrong   string
	}{
		"inside the prefix":                      {gate{private: some}, "10.1.2.3", false, ""},
		"outside the prefix":                     {gate{private: some}, "10.2.2.3", false, "private"},
		"inside, carried in IPv6":                {gate{private: some}, "64:ff9b::10.1.2.3", false, ""},
		"inside, mapped":                         {gate{private: some}, "::ffff:10.1.2.3", false, ""},
		"inside, with a zone":                    {gate{private: some}, "fd12::1%eth0", false, ""},
		"https only":                             {gate{private: some}, "10.1.2.3", true, "plain http to 10.1.2.3 is refused"},
		"plain http":                             {gate{plaintext: some}, "10.1.2.3", true, ""},
		"plain http outside":                     {gate{plaintext: some}, "10.2.2.3", true, "private"},
		"plain http to the public":               {gate{private: all}, "8.8.8.8", true, "plain http to 8.8.8.8 is refused"},
		"plain http allows no https":             {gate{plaintext: some}, "10.1.2.3", false, "private"},
		"a wide prefix does not mean metadata":   {gate{private: all}, "169.254.169.254", false, "metadata"},
		"nor Azure's, which looks public":        {gate{private: all}, "168.63.129.16", false, "metadata"},
		"metadata, named alone":                  {gate{private: alone}, "169.254.169.254", false, ""},
		"metadata, in the clear":                 {gate{plaintext: alone}, "169.254.169.254", true, ""},
		"metadata of a wide prefix, in clear":    {gate{plaintext: all}, "169.254.169.254", true, "metadata"},
		"multicast is nobody":                    {gate{private: all}, "224.0.0.1", false, "multicast"},
		"the unspecified address is this host's": {gate{private: all, plaintext: all}, "0.0.0.0", true, "unspecified"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.gate.check(netip.MustParseAddr(tc.address), tc.plain)
			if tc.wrong == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.wrong)
		})
	}
}

func TestPrefixesAreChecked(t *testing.T) {
	for _, wrong := range []netip.Prefix{{}, netip.MustParsePrefix("::ffff:10.0.0.0/104")} {
		_, err := New(Options{AllowPrivate: []netip.Prefix{wrong}})
		require.ErrorContains(t, err, "AllowPrivate")
		_, err = New(Options{AllowPlaintext: []netip.Prefix{wrong}})
		require.ErrorContains(t, err, "AllowPlaintext")
	}
	c, err := New(Options{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/8")}})
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.gate.check(netip.MustParseAddr("10.9.9.9"), false), "bits beyond the prefix don't count")
}
