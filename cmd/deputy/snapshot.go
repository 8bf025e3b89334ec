package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/server"
)

// snapshotTimeout is what a backup or a restore of millions of delegations may take.
const snapshotTimeout = 30 * time.Minute

func (a *app) clusterSnapshot() *cobra.Command {
	return group(&cobra.Command{
		Use:   "snapshot",
		Short: "Back the cluster up, look into a backup, restore one",
	}, a.snapshotSave(), a.snapshotInspect(), a.snapshotRestore())
}

// takesLong lets a command go on for as long as a large state needs.
func (a *app) takesLong(cmd *cobra.Command) *cobra.Command {
	a.waits(cmd, snapshotTimeout)
	return cmd
}

func (a *app) snapshotSave() *cobra.Command {
	var overwrite bool
	cmd := a.takesLong(&cobra.Command{
		Use:   "save FILE",
		Short: "Write a backup of the whole state to a file",
		Long: `Write a backup: agents, principals, applications, delegations, revocations and API tokens. It holds no signing
keys and no secrets in clear, but the hashes of secrets: keep it as you keep those. The file is checked from end to
end before it gets its name.`,
		Example: "  deputy cluster snapshot save deputy-$(date +%F).backup",
		Args:    exactly("the file's name"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			return a.saveSnapshot(ctx, c, args[0], overwrite)
		}),
	})
	cmd.Flags().BoolVar(&overwrite, "overwrite", false, "replace the file if it is there")
	return cmd
}

func (a *app) saveSnapshot(ctx context.Context, c *client.Client, path string, overwrite bool) error {
	if _, err := os.Stat(path); err == nil && !overwrite {
		return usagef("%s is there already; name another file, or give --overwrite", path)
	}
	folder := filepath.Dir(path)
	draft, err := os.CreateTemp(folder, ".deputy-backup-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(draft.Name()) //nolint:errcheck // gone already once it has its name
	defer draft.Close()           //nolint:errcheck // closed below, where it counts
	if _, err := c.SaveSnapshot(ctx, draft); err != nil {
		return err
	}
	if _, err := draft.Seek(0, io.SeekStart); err != nil {
		return err
	}
	info, err := server.InspectBackup(bufio.NewReader(draft))
	if err != nil {
		return fmt.Errorf("checking what was written: %w", err)
	}
	if err := errors.Join(draft.Sync(), draft.Close()); err != nil {
		return err
	}
	if err := os.Rename(draft.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(folder)
	if err != nil {
		return err
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil { // the name is durable only once the folder is
		return err
	}
	return a.showBackup(path, &info)
}

func (a *app) snapshotInspect() *cobra.Command {
	return &cobra.Command{
		Use:     "inspect FILE",
		Short:   "Check a backup from end to end and say what it holds; asks no node",
		Example: "  deputy cluster snapshot inspect deputy-2026-04-12.backup",
		Args:    exactly("the file's name"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			a.started = true
			info, err := inspect(args[0])
			if err != nil {
				return err
			}
			return a.showBackup(args[0], info)
		},
	}
}

// inspect reads a backup from end to end.
func inspect(path string) (*server.BackupInfo, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := server.InspectBackup(bufio.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &info, nil
}

func (a *app) showBackup(path string, info *server.BackupInfo) error {
	return a.show(info, func(s *sheet) {
		s.field("File", path)
		s.field("Of cluster", info.ClusterID)
		s.field("Issuer", info.Issuer)
		s.field("Taken", fmt.Sprintf("%s, at index %d", exactTime(info.Time), info.Index))
		s.field("Bytes", fmt.Sprint(info.Bytes))
		s.field("SHA-256", info.SHA256)
		s.field("Agents", count(info.Agents))
		s.field("Principals", count(info.Principals))
		s.field("Applications", count(info.Applications))
		s.field("Delegations", count(info.Delegations))
		s.field("Revocations", count(info.Revocations))
		s.field("API tokens", count(info.APITokens))
		s.field("Policies", count(info.Policies))
	})
}

func (a *app) snapshotRestore() *cobra.Command {
	return a.takesLong(&cobra.Command{
		Use:   "restore FILE",
		Short: "Restore a backup into a fresh cluster, which then mints nothing until it is opened",
		Long: `Restore a backup into a cluster that holds no agents, principals, applications and delegations.

Tokens of before the backup are dead, as no signing key is restored. Minting stays closed: what was stopped after the
backup was taken is not in it. Replay that first, from what is left of the old cluster or from your own records, and
then open:

  deputy revocation export > later.jsonl        # with DEPUTY_ADDR and DEPUTY_TOKEN of the old cluster
  deputy cluster restore --replay later.jsonl   # with those of the new one
  deputy cluster open --yes`,
		Example: "  deputy cluster snapshot restore deputy-2026-04-12.backup",
		Args:    exactly("the file's name"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			info, err := inspect(args[0])
			if err != nil {
				return err
			}
			restored, err := c.RestoreSnapshot(ctx, func() (io.ReadCloser, error) { return os.Open(args[0]) }, info.Bytes)
			if err != nil {
				return err
			}
			return a.show(restored, func(s *sheet) {
				s.field("Restored", args[0])
				s.field("Taken", exactTime(restored.TakenAt))
				s.field("Agents", count(int(restored.Agents)))
				s.field("Principals", count(int(restored.Principals)))
				s.field("Applications", count(int(restored.Applications)))
				s.field("Delegations", count(int(restored.Delegations)))
				s.field("Revocations", count(int(restored.Revocations)))
				s.field("API tokens", count(int(restored.APITokens)))
				s.field("Policies", count(int(restored.Policies)))
				s.field("Minting", "closed: "+restored.MintingClosed)
				s.field("Next", "replay what was stopped since: deputy cluster restore --replay FILE; then: deputy cluster open --yes")
			})
		}),
	})
}

// exactTime is a time as --since takes it.
func exactTime(t identity.Instant) string { return t.Time().UTC().Format(time.RFC3339) }

// maxReplayLine bounds one line of an export.
const maxReplayLine = 64 << 10

func (a *app) clusterRestore() *cobra.Command {
	var file string
	cmd := a.takesLong(&cobra.Command{
		Use:   "restore --replay FILE",
		Short: "After a restore, stop again what was stopped since the backup",
		Long: `After 'deputy cluster snapshot restore', stop again what was stopped since the backup was taken, and suspend the
agents and principals among it. The file has a JSON object a line, with a "handle" or a list of "handles" each; other
fields are ignored. It errs on the side of stopping: who was stopped since and let go again is suspended as well. The
same file twice does no harm.`,
		Example: `  deputy cluster restore --replay later.jsonl
  echo '{"handle": "agt_inbox-assistant#4"}' | deputy cluster restore --replay -`,
		Args: exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			if file == "" {
				return usagef("--replay FILE is needed; to restore a backup: deputy cluster snapshot restore FILE")
			}
			records, err := a.readReplay(file)
			if err != nil {
				return err
			}
			return a.replay(ctx, c, records)
		}),
	})
	cmd.Flags().StringVar(&file, "replay", "", "what 'deputy revocation export' wrote, or - for standard input")
	mustComplete(cmd.MarkFlagFilename("replay"))
	return cmd
}

// readReplay reads the whole file before anything is sent: half a replay would look like a whole one.
func (a *app) readReplay(path string) (handles []identity.Handle, err error) {
	source := a.in
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		source = file
	}
	lines := bufio.NewScanner(source)
	lines.Buffer(make([]byte, 0, 4<<10), maxReplayLine)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var record struct {
			Handle  string   `json:"handle"`
			Handles []string `json:"handles"`
		}
		if err := json.Unmarshal(lines.Bytes(), &record); err != nil {
			return nil, fmt.Errorf("%s, line %d is not JSON: %w", path, n, err)
		}
		if record.Handle != "" {
			record.Handles = append(record.Handles, record.Handle)
		}
		if len(record.Handles) == 0 {
			return nil, fmt.Errorf("%s, line %d names no handle", path, n)
		}
		for _, text := range record.Handles {
			handle, err := identity.ParseHandle(text)
			if err != nil {
				return nil, fmt.Errorf("%s, line %d: %w", path, n, err)
			}
			handles = append(handles, handle)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading %s after %d handles: %w", path, len(handles), err)
	}
	// An export that failed leaves such a file, and who then opens lets loose what was stopped.
	if len(handles) == 0 {
		return nil, fmt.Errorf("%s holds no handles; if nothing was stopped since the backup there is nothing to replay", path)
	}
	return handles, nil
}

func (a *app) replay(ctx context.Context, c *client.Client, handles []identity.Handle) error {
	done := 0
	for done < len(handles) {
		batch := handles[done:min(len(handles), done+wire.MaxHandles)]
		request := wire.RevocationRequest{Handles: batch, Replay: true, Reason: "replayed after a restore"}
		if _, err := c.Revoke(ctx, &request); err != nil {
			return fmt.Errorf("after %d of %d handles; replaying the file again is safe: %w", done, len(handles), err)
		}
		done += len(batch)
	}
	return a.show(map[string]int{"replayed": done}, func(s *sheet) {
		s.field("Replayed", count(done))
		s.field("Next", "deputy cluster open --yes")
	})
}

func (a *app) clusterOpen() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "open --yes",
		Short: "Let tokens be minted again after a restore, or after recovery from lost quorum",
		Long: `After a restore, or a recovery from lost quorum, nothing is minted: agents, delegations and credentials that were
stopped since are alive in what was restored. Replay these stops first (deputy cluster restore --replay FILE), or
look through what there is, and then open.`,
		Example: "  deputy cluster open --yes",
		Args:    exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			if !yes {
				return usagef("give --yes once what was stopped since has been replayed, or looked through: it can be used again from then on")
			}
			change, err := c.OpenMinting(ctx)
			if err != nil {
				return err
			}
			return a.show(change, func(s *sheet) { s.field("Minting", "open") })
		}),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "say that what was stopped since has been dealt with")
	return cmd
}
