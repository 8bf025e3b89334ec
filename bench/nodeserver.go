package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/deputy-id/deputy/internal/machine"
	"github.com/deputy-id/deputy/server"
)

// maxNodeSpec bounds the line that a node of a benchmark is told what it is by.
const maxNodeSpec = 64 << 10

// nodeReady bounds the start of a node: seconds on an idle machine.
const nodeReady = 60 * time.Second

// nodeSpec is what a node of a benchmark's own cluster is told on its standard input: a join token is a secret, and
// command lines can be read by anybody.
type nodeSpec struct {
	ID        string `json:"id"`
	DataDir   string `json:"data_dir"`
	Bootstrap bool   `json:"bootstrap,omitempty"`
	JoinToken string `json:"join_token,omitempty"`

	// Addresses to listen at; empty: one of loopback that the kernel chooses.
	Public  string `json:"public,omitempty"`
	Ops     string `json:"ops,omitempty"`
	Cluster string `json:"cluster,omitempty"`
	Gossip  string `json:"gossip,omitempty"`

	TLSCert string `json:"tls_cert,omitempty"` // files
	TLSKey  string `json:"tls_key,omitempty"`
}

// selfAddress is the line that ServeSelf and ServeNode write once they serve.
type selfAddress struct {
	Public  string `json:"public"` // base URL
	Ops     string `json:"ops"`    // host:port
	Cluster string `json:"cluster,omitempty"`
	Gossip  string `json:"gossip,omitempty"`
	Token   string `json:"token,omitempty"` // admin; of who made the cluster
}

// ServeNode runs one node of a benchmark's own cluster, as an operator's `deputy server` does, on loopback. It reads
// what it is from the first line of in, writes its addresses to out as one line of JSON once it is ready, and serves
// until in ends: a parent that dies leaves no node behind.
func ServeNode(ctx context.Context, in io.Reader, out io.Writer) error {
	reader := bufio.NewReaderSize(in, maxNodeSpec)
	line, err := reader.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("reading what this node is: %w", err)
	}
	var spec nodeSpec
	if err := json.Unmarshal(line, &spec); err != nil {
		return fmt.Errorf("reading what this node is: %w", err)
	}
	config := loopbackConfig(spec.ID)
	config.DataDir, config.Bootstrap, config.JoinToken = spec.DataDir, spec.Bootstrap, spec.JoinToken
	for _, listen := range []struct {
		to  *string
		was string
	}{
		{&config.Public.Listen, spec.Public},
		{&config.Ops.Listen, spec.Ops},
		{&config.Cluster.Listen, spec.Cluster},
		{&config.Gossip.Listen, spec.Gossip},
	} {
		if listen.was != "" {
			*listen.to = listen.was
		}
	}
	config.Public.TLSCert, config.Public.TLSKey = spec.TLSCert, spec.TLSKey
	return serveServer(ctx, server.Options{Config: config}, reader, out)
}

// ServeSelf runs one server in memory, on loopback ports that the kernel chooses, for a benchmark that wants a
// server of its own. It writes its addresses and its admin token to out as one line of JSON, and serves until
// in ends: a parent that dies leaves no server behind.
func ServeSelf(ctx context.Context, in io.Reader, out io.Writer) error {
	return serveServer(ctx, server.Options{Config: loopbackConfig("bench"), Dev: true}, in, out)
}

func loopbackConfig(id string) server.Config {
	config := server.DefaultConfig()
	config.NodeID = id
	config.Public.Listen, config.Ops.Listen = "127.0.0.1:0", "127.0.0.1:0"
	config.Cluster.Listen, config.Gossip.Listen = "127.0.0.1:0", "127.0.0.1:0"
	config.Log.Level = slog.LevelWarn
	return config
}

// selfStop bounds the way down of the server that a run brought up.
const selfStop = 10 * time.Second

func serveServer(ctx context.Context, o server.Options, in io.Reader, out io.Writer) (err error) {
	o.Logger = o.Config.Logger(os.Stderr)
	node, err := server.New(o)
	if err != nil {
		return fmt.Errorf("making the server: %w", err)
	}
	starting, cancel := context.WithTimeout(ctx, nodeReady)
	defer cancel()
	if err := node.Start(starting); err != nil {
		return fmt.Errorf("starting the server: %w", err)
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), selfStop)
		defer cancel()
		err = errors.Join(err, node.Stop(stopping))
	}()
	var headroom sync.WaitGroup
	defer headroom.Wait()
	running, cancelRunning := context.WithCancel(ctx)
	defer cancelRunning()
	headroom.Go(func() { server.KeepHeadroom(running, machine.AvailableMemory()) }) // as the command does
	scheme := "http://"
	if o.Config.Public.TLSCert != "" {
		scheme = "https://"
	}
	address := selfAddress{
		Public: scheme + node.PublicAddr(), Ops: node.OpsAddr(), Cluster: node.ClusterAddr(), Gossip: node.GossipAddr(),
		Token: node.RootToken(),
	}
	if err := json.NewEncoder(out).Encode(address); err != nil {
		return fmt.Errorf("writing the address: %w", err)
	}
	return untilEnd(ctx, in, nil)
}
