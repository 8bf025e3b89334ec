package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/deputy-id/deputy/bench/load"
)

// rawRaft is a cluster of bare raft: three processes, as a cluster's nodes are.
type rawRaft struct {
	dir     string
	members []*process
	http    []string // of each member
	leader  int
}

// startRawRaft brings up so many members and returns once one of them leads.
func startRawRaft(ctx context.Context, binary, parent string, members, commandBytes int, stderr io.Writer) (_ *rawRaft, err error) {
	dir, err := os.MkdirTemp(parent, "deputy-bench-raft-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for raft: %w", err)
	}
	r := &rawRaft{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	var peers []raftPeer
	for n := range members {
		spec := raftSpec{ID: fmt.Sprintf("raft-%d", n+1), Members: members, Command: commandBytes}
		spec.Dir = filepath.Join(dir, spec.ID)
		if err := os.Mkdir(spec.Dir, 0o700); err != nil {
			return nil, err
		}
		p, err := start(context.WithoutCancel(ctx), binary, []string{"bench", "raft-server"}, nil, nil, stderr)
		if err != nil {
			return nil, err
		}
		r.members = append(r.members, p)
		var address raftAddress
		if err := json.NewEncoder(p.stdin).Encode(spec); err != nil {
			return nil, fmt.Errorf("telling %s what it is: %w", spec.ID, err)
		}
		if err := lineWithin(ctx, startTimeout, p.stdout, &address); err != nil {
			return nil, fmt.Errorf("%s did not come up: %w", spec.ID, err)
		}
		peers = append(peers, raftPeer{ID: spec.ID, Raft: address.Raft})
		r.http = append(r.http, address.HTTP)
	}
	for _, p := range r.members {
		if err := json.NewEncoder(p.stdin).Encode(peers); err != nil {
			return nil, fmt.Errorf("telling raft its members: %w", err)
		}
	}
	return r, r.awaitLeader(ctx)
}

func (r *rawRaft) awaitLeader(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		for n := range r.http {
			if status, _, err := getOnce(ctx, r.http[n], raftLeadsPath, load.DefaultTimeout); err == nil && status == 200 {
				r.leader = n
				return nil
			}
		}
		if err := pauseFor(ctx, memberPoll); err != nil {
			return fmt.Errorf("waiting for bare raft to have a leader: %w", err)
		}
	}
}

// drive has so many callers beside the leader apply commands.
func (r *rawRaft) drive(ctx context.Context, callers int, d time.Duration) (driven raftDriven, err error) {
	path := fmt.Sprintf("%s?callers=%d&ms=%d", raftDrivePath, callers, d.Milliseconds())
	status, body, err := getOnce(ctx, r.http[r.leader], path, d+raftApplyWait+load.DefaultTimeout)
	if err != nil {
		return driven, fmt.Errorf("driving bare raft: %w", err)
	}
	if status != 200 {
		return driven, fmt.Errorf("driving bare raft: it answered %d", status)
	}
	if err := json.Unmarshal(body, &driven); err != nil {
		return driven, fmt.Errorf("driving bare raft: %w", err)
	}
	return driven, nil
}

func (r *rawRaft) close() error {
	for _, p := range r.members {
		p.kill()
	}
	return os.RemoveAll(r.dir)
}

// getOnce asks on a connection of its own.
func getOnce(ctx context.Context, address, path string, timeout time.Duration) (status int, body []byte, err error) {
	c, err := load.Dial(ctx, address, nil)
	if err != nil {
		return 0, nil, err
	}
	defer c.Close()
	if err := c.Until(time.Now().Add(timeout)); err != nil {
		return 0, nil, err
	}
	return c.Exchange(fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: bench.invalid\r\n\r\n", path))
}

func listenLoopback() (net.Listener, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening on loopback: %w", err)
	}
	return listener, nil
}
