package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/client"
)

// maxWitnesses bounds a file of checkpoints and keys.
const maxWitnesses = 64 << 20

// witnesses are what a log is judged by: the keys of the nodes, and what the others hold of it.
type witnesses struct {
	keys        map[string]ed25519.PublicKey
	checkpoints []audit.Checkpoint
}

func readWitnesses(text []byte) (w witnesses, err error) {
	var all struct {
		Checkpoints []audit.Checkpoint `json:"checkpoints"`
		Keys        []wire.AuditKey    `json:"keys"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return w, fmt.Errorf("this is not what 'deputy audit checkpoints -o json' prints: %w", err)
	}
	w = witnesses{keys: map[string]ed25519.PublicKey{}, checkpoints: all.Checkpoints}
	for _, k := range all.Keys {
		if len(k.Key) != ed25519.PublicKeySize {
			return w, fmt.Errorf("the key of node %s has %d bytes instead of %d", k.Node, len(k.Key), ed25519.PublicKeySize)
		}
		w.keys[k.Node] = k.Key
	}
	if len(w.keys) == 0 {
		return w, errors.New("it holds no keys")
	}
	return w, nil
}

// witnesses reads the file, or asks the cluster.
func (a *app) witnesses(ctx context.Context, file string) (w witnesses, err error) {
	var text []byte
	if file != "" {
		if text, err = a.readFile(file, maxWitnesses); err != nil {
			return w, err
		}
		if w, err = readWitnesses(text); err != nil {
			return w, fmt.Errorf("%s: %w", file, err)
		}
		return w, nil
	}
	c, err := a.client()
	if err != nil {
		return w, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	held, err := c.AuditCheckpoints(ctx)
	if err != nil {
		return w, late(ctx, err, a.timeout)
	}
	for _, n := range held.Nodes {
		if !n.Replied {
			a.note("warning: what %s holds is missing: %s", n.ID, n.Error)
		}
	}
	if text, err = json.Marshal(held); err != nil {
		return w, err
	}
	return readWitnesses(text)
}

func (a *app) auditVerify() *cobra.Command {
	var keys string
	var peers []string
	cmd := &cobra.Command{
		Use:   "verify [DIR]",
		Short: "Check a node's audit log, record by record, and name the first bad one",
		Long: `Check a node's audit log: its folder, or a copy of it (default: the current folder).

Every change of a byte is found, and every record that is missing, at the end as well: the file head beside the
segments says how far the log reaches, signed by the node. Copy it first where the node is running.

Keys and the checkpoints of other nodes come from the cluster, or, to check it elsewhere, from a file that
'deputy audit checkpoints -o json' wrote. The exit code is 1 where anything is wrong.`,
		Example: `  deputy audit verify /var/lib/deputy/data/audit
  deputy audit checkpoints -o json > witnesses.json
  deputy audit verify ./copy-of-audit --keys witnesses.json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			a.started = true
			w, err := a.witnesses(cmd.Context(), keys)
			if err != nil {
				return fmt.Errorf("getting the keys of the nodes: %w", err)
			}
			for _, file := range peers {
				more, unreadable, err := audit.ReadCheckpoints(file)
				if err != nil {
					return err
				}
				if unreadable > 0 {
					a.note("warning: %d lines of %s are no checkpoints", unreadable, file)
				}
				w.checkpoints = append(w.checkpoints, more...)
			}
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			if inner := filepath.Join(dir, "audit"); isFolder(inner) { // a data folder
				dir = inner
			}
			report, err := audit.Verify(cmd.Context(), dir, audit.VerifyOptions{Keys: w.keys, Checkpoints: w.checkpoints})
			if err != nil {
				return err
			}
			return a.showReport(dir, report)
		},
	}
	cmd.Flags().StringVar(&keys, "keys", "", "file with keys and checkpoints, from 'deputy audit checkpoints -o json'; - is standard input (default: ask the cluster)")
	cmd.Flags().StringArrayVar(&peers, "peers", nil, "peers.jsonl from the audit folder of another node: further checkpoints (repeatable)")
	return cmd
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func (a *app) showReport(dir string, r *audit.Report) error {
	err := a.show(r, func(s *sheet) {
		s.field("Folder", dir)
		s.field("Node", r.Node)
		s.field("Log", r.Log)
		s.field("Records", fmt.Sprintf("%d, from %d to %d, in %d files", r.Records, r.First, r.Last, r.Segments))
		s.field("Signed", fmt.Sprintf("by %d checkpoints; %d held elsewhere agree", r.Checkpoints, r.Witnessed))
		switch {
		case r.Closed:
			s.field("Sealed", fmt.Sprintf("through record %d, where the node has closed it", r.Sealed))
		case r.Sealed > 0:
			s.field("Sealed", fmt.Sprintf("through record %d", r.Sealed))
		}
		if r.Unsigned > 0 {
			s.field("No checkpoint yet", fmt.Sprintf("of %d records at the end", r.Unsigned))
		}
		if r.Sealed > 0 && r.Last > r.Sealed {
			s.field("Not sealed yet", fmt.Sprintf("%d records at the end", r.Last-r.Sealed))
		}
		if r.Unusable > 0 {
			s.field("Left aside", fmt.Sprintf("%d checkpoints without a good signature of a known node", r.Unusable))
		}
		for i := range r.Problems {
			s.field("Problem", r.Problems[i].String())
		}
	})
	if err != nil {
		return err
	}
	if !r.OK() {
		return fmt.Errorf("the audit log is not whole: %s", r.Problems[0].String())
	}
	if a.output == formatTable {
		_, err = fmt.Fprintln(a.out, "The log is whole.")
	}
	return err
}

func (a *app) auditCheckpoints() *cobra.Command {
	return &cobra.Command{
		Use:     "checkpoints",
		Short:   "Show what the nodes hold of each other's logs, with the keys to check it by",
		Example: "  deputy audit checkpoints -o json > witnesses.json",
		Args:    exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			held, err := c.AuditCheckpoints(ctx)
			if err != nil {
				return err
			}
			err = a.show(held, func(s *sheet) {
				s.row("NODE", "THROUGH", "SIGNED", "HELD BY", "HEAD")
				for _, k := range held.Checkpoints {
					s.row(k.Node, strconv.FormatUint(k.Through, 10), s.when(k.Time), k.HeldBy, brief(k.Head))
				}
			})
			silent := map[string]string{}
			for _, n := range held.Nodes {
				if !n.Replied {
					silent[n.ID] = n.Error
				}
			}
			a.noteSilent(silent)
			return err
		}),
	}
}

func (a *app) auditProve() *cobra.Command {
	var keys, check string
	cmd := &cobra.Command{
		Use:   "prove NODE SEQUENCE",
		Short: "Prove that a record stands in a node's log, or check such a proof",
		Example: `  deputy audit prove n1 4711 -o json > proof.json
  deputy audit prove --check proof.json --keys witnesses.json`,
		Args: func(_ *cobra.Command, args []string) error {
			if check != "" && len(args) == 0 {
				return nil
			}
			if check != "" || len(args) != 2 {
				return usagef("either a node and the number of a record are needed, or --check FILE")
			}
			if _, err := strconv.ParseUint(args[1], 10, 64); err != nil {
				return usagef("%q is no number of a record", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			a.started = true
			var text []byte
			var err error
			if check != "" {
				text, err = a.readFile(check, audit.MaxLine*4)
			} else {
				text, err = a.getProof(cmd.Context(), args)
			}
			if err != nil {
				return err
			}
			var proof audit.Proof
			if err := json.Unmarshal(text, &proof); err != nil {
				return fmt.Errorf("this is no proof: %w", err)
			}
			w, err := a.witnesses(cmd.Context(), keys)
			if err != nil {
				return fmt.Errorf("getting the keys of the nodes: %w", err)
			}
			key, known := w.keys[proof.Checkpoint.Node]
			if !known {
				return fmt.Errorf("no key is known of node %q", proof.Checkpoint.Node)
			}
			if err := audit.VerifyProof(&proof, nil, key); err != nil {
				return fmt.Errorf("the proof doesn't hold: %w", err)
			}
			return a.show(&proof, func(s *sheet) {
				s.field("Proven", fmt.Sprintf("record %d of node %s, signed by its key at %s", proof.Sequence, proof.Checkpoint.Node, proof.Checkpoint.Time))
				s.field("Path", fmt.Sprintf("%d hashes to the root over records %d to %d", len(proof.Path), proof.Checkpoint.First, proof.Checkpoint.Through))
				s.field("Record", proof.Record)
			})
		},
	}
	cmd.Flags().StringVar(&keys, "keys", "", "file with keys, from 'deputy audit checkpoints -o json' (default: ask the cluster)")
	cmd.Flags().StringVar(&check, "check", "", "file with a proof to check, in place of asking for one")
	return cmd
}

func (a *app) getProof(ctx context.Context, args []string) ([]byte, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	sequence, _ := strconv.ParseUint(args[1], 10, 64) // as checked before
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	proof, err := c.AuditProof(ctx, args[0], sequence)
	if err != nil {
		return nil, late(ctx, err, a.timeout)
	}
	return json.Marshal(proof)
}

func (a *app) auditSinks() *cobra.Command {
	return &cobra.Command{
		Use:     "sinks",
		Short:   "Show how far the records of each node have got to where they are sent",
		Example: "  deputy audit sinks",
		Args:    exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.AuditSinks(ctx)
			if err != nil {
				return err
			}
			err = a.show(all, func(s *sheet) {
				s.row("NODE", "SINK", "CONFIRMED", "BEHIND", "LAG", "LOST", "FAILURES", "STATE")
				for _, k := range all.Sinks {
					state := "delivering"
					if k.Error != "" {
						state = brief(k.Error)
					}
					s.row(k.Node, k.Name, strconv.FormatUint(k.Confirmed, 10), strconv.FormatUint(k.Behind, 10), secondsText(int64(k.LagSeconds)),
						strconv.FormatUint(k.Lost, 10), strconv.FormatUint(k.Failures, 10), state)
				}
			})
			silent := map[string]string{}
			for _, n := range all.Nodes {
				if !n.Replied {
					silent[n.ID] = n.Error
				}
			}
			a.noteSilent(silent)
			return err
		}),
	}
}
