package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/deputy-id/deputy/api/wire"
)

// WatchOptions say what of the revocation stream is wanted.
type WatchOptions struct {
	// From is the index up to which everything is known; 0 begins with the whole set.
	From uint64
	// Credentials of an application, where the client has no API token that may watch.
	Credentials *Credentials
}

// Watch calls each for every event of the revocation stream, until ctx ends, each returns an error, or a node refuses for
// good. Where a stream breaks it goes on at another node, from where it was.
func (c *Client) Watch(ctx context.Context, o WatchOptions, each func(*RevocationEvent) error) error {
	at := position{index: o.From}
	var mine error
	var failed failures
	for n := int(c.preferred.Load()); ; n++ {
		address := c.addresses[n%len(c.addresses)]
		err := c.follow(ctx, address, o.Credentials, &at, func(e *RevocationEvent) error {
			failed.heard(e)
			mine = each(e)
			return mine
		})
		var no *Error
		switch {
		case mine != nil:
			return mine
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &no) && !no.another(true):
			return no
		case failed.inRow >= watchTries*len(c.addresses):
			return fmt.Errorf("no node could be followed for long: %w", err)
		}
		if err := c.pause(ctx, failed.pause(len(c.addresses), err)); err != nil {
			return err
		}
	}
}

// watchTries is how often in a row each node may fail before Watch gives up: about a minute.
const watchTries = 15

// failures count streams in a row that came to nothing, and say how long to wait before the next.
type failures struct{ inRow int }

const (
	// maxStreamPause bounds the wait between two rounds over all nodes.
	maxStreamPause = 5 * time.Second
	// behindPause is before beginning again with the whole set: whoever could not keep up has no use for haste.
	behindPause = time.Second
)

// heard begins to count anew once a stream has told something. That it was opened is not enough.
func (f *failures) heard(e *RevocationEvent) {
	if e.Type != wire.EventOpen && e.Type != wire.EventEnd {
		f.inRow = 0
	}
}

// pause is short while there are nodes that have not been tried, and doubles from round to round.
func (f *failures) pause(nodes int, why error) time.Duration {
	f.inRow++
	var end *StreamEndError
	if errors.As(why, &end) && end.Code == wire.EndBehind {
		return behindPause
	}
	if f.inRow%nodes != 0 {
		return firstPause / 10
	}
	wait := firstPause
	for range f.inRow/nodes - 1 {
		if wait *= 2; wait >= maxStreamPause {
			return maxStreamPause
		}
	}
	return wait
}
