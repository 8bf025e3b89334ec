package faults

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The network of a test: its processes stand each in a namespace of their own, joined by a bridge in that of the
// test, which has the first address and is never hit by a fault: it has to see what a cut-off node answers.
const (
	bridge      = "dtest"
	testHost    = "10.99.0.1"
	firstHost   = 10  // nodes come after it
	maxHosts    = 240 // what is left of the subnet
	netnsPrefix = "deputy-test-"
)

// network is a ground on which every node has a machine's worth of network.
type network struct {
	hosts int
}

// newNetwork makes the bridge. It goes when the test ends, after the nodes.
func newNetwork(t *testing.T) *network {
	t.Helper()
	needsRobustness(t)
	w := &network{}
	t.Cleanup(func() { require.NoError(t, sh("ip", "link", "del", bridge)) })
	for _, line := range []string{
		"ip link add " + bridge + " type bridge",
		"ip addr add " + testHost + "/24 dev " + bridge,
		"ip link set " + bridge + " up",
	} {
		w.run(t, line)
	}
	return w
}

func (w *network) run(t *testing.T, line string) {
	t.Helper()
	words := strings.Fields(line)
	require.NoError(t, sh(words[0], words[1:]...))
}

func (w *network) place(t *testing.T, n *node) {
	t.Helper()
	require.Less(t, w.hosts, maxHosts, "the subnet is full")
	w.hosts++
	ns, port, ip := netnsPrefix+n.id, fmt.Sprintf("v%d", w.hosts), fmt.Sprintf("10.99.0.%d", firstHost+w.hosts)
	t.Cleanup(func() {
		require.NoError(t, sh("ip", "link", "del", port)) // goes with its namespace too, but only some time later
		require.NoError(t, sh("ip", "netns", "del", ns))
	})
	for _, line := range []string{
		"ip netns add " + ns,
		"ip link add " + port + " type veth peer name eth0 netns " + ns,
		"ip link set " + port + " master " + bridge + " up",
		"ip -n " + ns + " addr add " + ip + "/24 dev eth0",
		"ip -n " + ns + " link set eth0 up",
		"ip -n " + ns + " link set lo up",
	} {
		w.run(t, line)
	}
	n.public, n.cluster, n.gossip, n.ops = ip+":8401", ip+":8411", ip+":8431", ip+":8421"
	n.prefix = []string{"nsenter", "--net=/run/netns/" + ns, "--"}
}

// weather is what the network does to the packets between one node and all the others.
type weather struct {
	deaf bool // nothing gets in
	mute bool // nothing gets out
	loss int  // so many of 100 packets that would get in do not
}

var cutOff = weather{deaf: true, mute: true}

// set changes a node's weather, for connections that there are as well as for new ones. The zero weather is fine.
func (w *network) set(t *testing.T, n *node, now weather) {
	t.Helper()
	var in, out string
	if now.deaf {
		in = "iifname eth0 ip saddr != " + testHost + " drop;"
	} else if now.loss > 0 {
		in = fmt.Sprintf("iifname eth0 ip saddr != %s numgen random mod 100 < %d drop;", testHost, now.loss)
	}
	if now.mute {
		out = "oifname eth0 ip daddr != " + testHost + " drop;"
	}
	rules := exec.Command("nsenter", "--net=/run/netns/"+netnsPrefix+n.id, "--", "nft", "-f", "-")
	rules.Stdin = strings.NewReader(fmt.Sprintf(`
table inet weather
delete table inet weather
table inet weather {
	chain in { type filter hook input priority 0; policy accept; %s }
	chain out { type filter hook output priority 0; policy accept; %s }
}
`, in, out))
	said, err := rules.CombinedOutput()
	require.NoError(t, err, "%s", said)
}
