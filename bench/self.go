package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/deputy-id/deputy/server"
)

// selfStop bounds the way down of the server that a run brought up.
const selfStop = 10 * time.Second

// ServeSelf runs one server in memory, on loopback ports that the kernel chooses, for a benchmark that wants a
// server of its own. It writes its addresses and its admin token to out as one line of JSON, and serves until
// in ends: a parent that dies leaves no server behind.
func ServeSelf(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	config := server.DefaultConfig()
	config.NodeID = "bench"
	config.Public.Listen, config.Ops.Listen = "127.0.0.1:0", "127.0.0.1:0"
	config.Cluster.Listen, config.Gossip.Listen = "127.0.0.1:0", "127.0.0.1:0"
	config.Log.Level = slog.LevelWarn
	node, err := server.New(server.Options{Config: config, Dev: true, Logger: config.Logger(os.Stderr)})
	if err != nil {
		return fmt.Errorf("making the server: %w", err)
	}
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := node.Start(starting); err != nil {
		return fmt.Errorf("starting the server: %w", err)
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), selfStop)
		defer cancel()
		if stopErr := node.Stop(stopping); err == nil {
			err = stopErr
		}
	}()
	address := selfAddress{Public: "http://" + node.PublicAddr(), Ops: node.OpsAddr(), Token: node.RootToken()}
	if err := json.NewEncoder(out).Encode(address); err != nil {
		return fmt.Errorf("writing the address: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, in) // the end is what matters, however it comes
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	return nil
}
