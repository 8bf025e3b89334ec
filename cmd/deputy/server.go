package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/internal/machine"
	"github.com/deputy-id/deputy/server"
)

// stopTimeout bounds a graceful stop; what isn't finished by then is cut off. The data folder stands that.
const stopTimeout = 15 * time.Second

type serverFlags struct {
	dev    bool
	config string
	join   string
	listen string

	recoverQuorum bool
	yes           bool
}

func (a *app) serverCommand() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "server --dev | server --config FILE [--join TOKEN]",
		Short: "Run a node",
		Long: `Run a node until SIGINT or SIGTERM, then finish what is under way and stop. A second signal ends it at once.

--dev is one node in memory, for trying things out: what it holds is gone when it stops. Its root token is
printed, and kept for the command line in a file that only you can read:
  ` + devAccessDescription + `

--config reads a YAML file; an unknown key is an error that names its line. A new node needs 'bootstrap: true',
to be the first of a new cluster, or a join token of a running one.

--recover-quorum is for when the majority of voters is lost for good. It makes this node the only one of its cluster:
what the others had committed and this one had not received is gone, none of them comes back, every token minted so
far is dead, and nothing is minted until 'deputy cluster open'. Choose the node with the highest applied index, stop
the others if they still run, and give the flag for one start only.`,
		Example: `  deputy server --dev
  deputy server --config /etc/deputy/deputy.yaml
  deputy server --config n4.yaml --join -   # the token from standard input`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.dev == (f.config != "") {
				return usagef("give either --dev or --config FILE")
			}
			if f.dev && f.join != "" {
				return usagef("--dev is a cluster of its own and joins no other")
			}
			if f.recoverQuorum && (f.dev || f.join != "") {
				return usagef("--recover-quorum goes with --config alone: it needs the data of a node that was a member")
			}
			if f.recoverQuorum && !f.yes {
				return usagef("--recover-quorum leaves this node the only one of its cluster, for good, and ends every token; " +
					"`deputy server --help` says what else is lost. Stop the other nodes if any still runs, then say --yes as well")
			}
			if f.yes && !f.recoverQuorum {
				return usagef("--yes is for --recover-quorum")
			}
			if !f.dev && f.listen != "" {
				return usagef("--listen is for --dev; with --config the file says public.listen")
			}
			a.started = true
			return a.serve(cmd.Context(), &f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.dev, "dev", false, "one node in memory")
	flags.StringVar(&f.config, "config", "", "YAML file")
	flags.StringVar(&f.join, "join", "", "join token for a new node, - to read it from standard input")
	flags.BoolVar(&f.recoverQuorum, "recover-quorum", false, "with --config: go on alone after the majority was lost for good")
	flags.BoolVar(&f.yes, "yes", false, "with --recover-quorum: yes, the others are lost")
	flags.StringVar(&f.listen, "listen", "", "with --dev: the public address (default 127.0.0.1:8401)")
	mustComplete(cmd.MarkFlagFilename("config", "yaml", "yml"))
	return cmd
}

// options reads the configuration and what the flags put in its place.
func (f *serverFlags) options(a *app) (server.Options, error) {
	if f.dev {
		config := server.DefaultConfig()
		config.NodeID = "dev"
		// A single node has no peers to tell its ports to.
		config.Cluster.Listen, config.Gossip.Listen = "127.0.0.1:0", "127.0.0.1:0"
		if f.listen != "" {
			config.Public.Listen, config.Ops.Listen = f.listen, "127.0.0.1:0"
		}
		return server.Options{Config: config, Dev: true, Logger: config.Logger(a.err)}, nil
	}
	config, err := server.LoadConfig(f.config)
	if err != nil {
		return server.Options{}, err
	}
	if f.join != "" {
		token := f.join
		if token == "-" {
			text, err := a.readFile("-", 64<<10)
			if err != nil {
				return server.Options{}, err
			}
			token = string(text)
		}
		config.JoinToken = strings.TrimSpace(token)
		if err := config.Validate(); err != nil {
			return server.Options{}, err
		}
	}
	return server.Options{Config: config, Logger: config.Logger(a.err), RecoverQuorum: f.recoverQuorum}, nil
}

// serve runs a node until ctx ends or a part of it fails.
func (a *app) serve(ctx context.Context, f *serverFlags) error {
	options, err := f.options(a)
	if err != nil {
		return err
	}
	node, err := server.New(options)
	if err != nil {
		return err
	}
	loaded := putOffCollecting(node.SnapshotBytes(), machine.AvailableMemory())
	err = node.Start(ctx)
	loaded()
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to stop while starting, and did
		}
		return err
	}
	var headroom sync.WaitGroup
	defer headroom.Wait()
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	headroom.Go(func() { server.KeepHeadroom(running, machine.AvailableMemory()) })
	if f.dev {
		access := &devAccess{Address: "http://" + node.PublicAddr(), Token: node.RootToken()}
		if err := a.announce(access); err != nil {
			return errors.Join(err, stop(ctx, node))
		}
		defer access.remove()
	}
	failed := node.Wait(ctx)
	return errors.Join(failed, stop(ctx, node))
}

func stop(ctx context.Context, node *server.Server) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return node.Stop(ctx)
}

// announce tells a developer all that is needed to go on, and leaves it where the command line finds it.
func (a *app) announce(access *devAccess) error {
	path, err := access.write()
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, `
One node in memory, for development: all it holds is gone when it stops.

  export %s=%s
  export %s=%s

The deputy command of this user finds both by itself, in %s:

  deputy agent create support-triage-agent --scope zendesk.tickets.read --with-secret

`, envAddress, access.Address, envToken, access.Token, path)
	return nil
}
