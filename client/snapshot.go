package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

const (
	snapshotPath  = clusterPath + "/snapshot"
	mediaSnapshot = "application/octet-stream"
)

// SaveSnapshot writes a backup of the cluster's state to w and returns how many bytes it has. After an error, what
// was written is of no use. It takes as long as ctx allows; the next node is asked only while nothing was written.
func (c *Client) SaveSnapshot(ctx context.Context, w io.Writer) (size int64, err error) {
	err = c.eachNode(ctx, func(address string) (again bool, err error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address+snapshotPath, nil)
		if err != nil {
			return false, err
		}
		c.sign(request, nil)
		response, err := c.http.Do(request)
		if err != nil {
			return true, err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return declined(address, response)
		}
		if size, err = io.Copy(w, response.Body); err != nil {
			return false, fmt.Errorf("the backup from %s broke off after %d bytes: %w", address, size, err)
		}
		return false, nil
	})
	return size, err
}

// RestoreSnapshot restores a backup into a cluster that holds nothing yet. Only the leader takes it, so it may be
// opened once for each node; size is that of what open returns, or below zero where that is not known.
func (c *Client) RestoreSnapshot(ctx context.Context, open func() (io.ReadCloser, error), size int64) (*wire.Restored, error) {
	restored := new(wire.Restored)
	err := c.eachNode(ctx, func(address string) (again bool, err error) {
		backup, err := open()
		if err != nil {
			return false, fmt.Errorf("opening the backup: %w", err)
		}
		defer backup.Close() // net/http does so too, but not before everything
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, address+snapshotPath, backup)
		if err != nil {
			return false, err
		}
		request.ContentLength = size
		request.Header.Set("Content-Type", mediaSnapshot)
		c.sign(request, nil)
		response, err := c.http.Do(request)
		if err != nil {
			// Asked for again, a restore that was broken off starts over, and one that was made is refused.
			return true, err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return declined(address, response)
		}
		c.observe(response.Header.Get(wire.HeaderIndex))
		return false, json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(restored)
	})
	return orNil(restored, err)
}

// declined reads why a node said no, and whether another one may say yes.
func declined(address string, response *http.Response) (again bool, err error) {
	text, err := io.ReadAll(io.LimitReader(response.Body, wire.MaxBodyBytes))
	if err != nil {
		return true, err
	}
	no := refusal(address, response, text)
	return no.Code == identity.CodeNotLeader || no.another(true), no
}

// eachNode asks one node after the other, in the rounds and with the pauses of Do, while it is told to go on.
func (c *Client) eachNode(ctx context.Context, ask func(address string) (again bool, err error)) error {
	failures := make([]Failure, len(c.addresses))
	wait := firstPause
	var refused *Error
	for round := range rounds {
		if round > 0 {
			if err := c.pause(ctx, min(max(wait, retryWish(refused)), maxPause)); err != nil {
				return err
			}
			wait *= 2
		}
		first := int(c.preferred.Load())
		for i := range c.addresses {
			n := (first + i) % len(c.addresses)
			again, err := ask(c.addresses[n].String())
			if !again {
				return err
			}
			if !errors.As(err, &refused) {
				failures[n] = Failure{Address: c.addresses[n].String(), Err: cause(err)}
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	if refused != nil {
		return refused
	}
	return &UnreachableError{Failures: failures}
}
