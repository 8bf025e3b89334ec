package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/client"
)

// ground is where a load goes: nodes that run already, or those of the run's own.
type ground struct {
	api   *client.Client // as an admin, at all nodes
	token string         // admin
	nodes []load.Node
	ops   []opsListener // of those whose metrics may be read
	cpus  layout

	own  *ownCluster // nil unless the run's own
	self *process    // the run's own single server, in memory

	scheme string
	http   *http.Client
}

// groundOf makes the one that the options name.
func groundOf(ctx context.Context, o *DriveOptions) (_ *ground, err error) {
	g := &ground{}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	switch {
	case o.Self:
		if g.cpus, err = plan(o.Pin); err != nil {
			return nil, err
		}
		err = g.bringUpSelf(ctx, o)
	case o.OwnNodes > 0:
		o.Logger.Info("starting nodes", "count", o.OwnNodes)
		if g.own, err = startOwnCluster(ctx, ownClusterOptions{binary: o.Binary, parent: o.Folder, nodes: o.OwnNodes, tls: o.TLS}); err != nil {
			return nil, err
		}
		err = g.reachOwn()
	default:
		err = g.reach(o)
	}
	return g, err
}

func (g *ground) bringUpSelf(ctx context.Context, o *DriveOptions) (err error) {
	o.Logger.Info("starting a server of its own", "cpus", g.cpus.server)
	if g.self, err = start(context.WithoutCancel(ctx), o.Binary, []string{"bench", "self-server"}, g.cpus.server, nil, o.Stderr); err != nil {
		return err
	}
	var address selfAddress
	if err := lineWithin(ctx, startTimeout, g.self.stdout, &address); err != nil {
		return fmt.Errorf("the server did not come up: %w", err)
	}
	g.token, g.scheme, g.http = address.Token, "http://", http.DefaultClient
	g.nodes = []load.Node{{Address: hostOf(address.Public)}}
	g.ops = []opsListener{{Name: "bench", URL: "http://" + address.Ops}}
	g.api, err = client.New(client.Options{Addresses: []string{address.Public}, Token: address.Token, UserAgent: "deputy-bench"})
	return err
}

func (g *ground) reachOwn() (err error) {
	if g.api, err = g.own.client(); err != nil {
		return err
	}
	g.token, g.ops = g.own.token, opsOf(g.own)
	var config *tls.Config
	if g.own.ca != nil {
		if config, err = trusting(g.own.ca); err != nil {
			return err
		}
	}
	g.speak(config)
	for _, n := range g.own.live() {
		g.nodes = append(g.nodes, load.Node{Address: hostOf(n.address.Public), TLS: config})
	}
	return nil
}

// reach takes nodes that run already.
func (g *ground) reach(o *DriveOptions) error {
	g.api, g.token = o.Client, o.Token
	var config *tls.Config
	if len(o.CA) > 0 {
		var err error
		if config, err = trusting(o.CA); err != nil {
			return err
		}
	}
	for i, node := range o.Client.Addresses() {
		u, err := url.Parse(node)
		if err != nil || u.Hostname() == "" || u.Port() == "" || u.Path != "" || (u.Scheme != "http" && u.Scheme != "https") {
			return fmt.Errorf("node %q is not a base URL with a port, such as http://127.0.0.1:8401", node)
		}
		if i > 0 && g.secure() != (u.Scheme == "https") {
			return errors.New("some nodes are given with http and some with https; give all the same way")
		}
		n := load.Node{Address: u.Host}
		if u.Scheme == "https" {
			if config == nil {
				config = &tls.Config{MinVersion: tls.VersionTLS12}
			}
			n.TLS = config
		}
		g.nodes = append(g.nodes, n)
	}
	g.speak(g.nodes[0].TLS)
	for i, address := range o.Ops {
		name := address
		if len(o.Ops) == len(g.nodes) {
			name = g.nodes[i].Address
		}
		g.ops = append(g.ops, opsListener{Name: name, URL: withScheme(address)})
	}
	return nil
}

func (g *ground) secure() bool { return len(g.nodes) > 0 && g.nodes[0].TLS != nil }

// speak sets how single requests reach the nodes.
func (g *ground) speak(config *tls.Config) {
	g.scheme, g.http = "http://", http.DefaultClient
	if config != nil {
		g.scheme = "https://"
		g.http = &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	}
}

func withScheme(address string) string {
	if u, err := url.Parse(address); err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
		return address
	}
	return "http://" + address
}

// at reaches one node only.
func (g *ground) at(node int) (*client.Client, error) {
	o := client.Options{Addresses: []string{g.scheme + g.nodes[node].Address}, Token: g.token, UserAgent: "deputy-bench"}
	if g.nodes[node].TLS != nil {
		o.Transport = g.http.Transport
	}
	return client.New(o)
}

// close ends what the run has brought up.
func (g *ground) close() error {
	if g.self != nil {
		g.self.stop()
	}
	if g.own != nil {
		return g.own.close()
	}
	return nil
}
