package bench

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/client"
)

// coldSubject is how introspection of tokens that the node has not seen is called.
const coldSubject = "introspect, cold"

// spare is by how much more tokens a turn is given than signatures can be verified in it: those that are left over are
// lost.
const spare = 1.25

// coldTokens are tokens of which each is asked about once.
type coldTokens struct {
	fixture *fixture
	node    []load.Node
	perTurn float64 // tokens for each second of a turn

	tokens [][]byte // requests
	next   atomic.Int64
	again  atomic.Int64 // asked about a second time, as there were no more
}

// fresh takes the next.
func (c *coldTokens) fresh(string) []byte {
	n := c.next.Add(1) - 1
	if n >= int64(len(c.tokens)) {
		c.again.Add(1)
	}
	return c.tokens[n%int64(len(c.tokens))]
}

// refill mints what a turn can use up at most.
func (c *coldTokens) refill(ctx context.Context, turn time.Duration) error {
	count := max(1, int(c.perTurn*turn.Seconds()))
	minted, err := harvest(ctx, c.node, c.fixture.mintRequest(), count)
	if err != nil {
		return err
	}
	c.tokens = c.tokens[:0]
	for _, token := range minted {
		c.tokens = append(c.tokens, c.fixture.introspectRequest(token))
	}
	c.next.Store(0)
	return nil
}

// addCold has introspection of tokens not seen before take its turns.
func (r *run) addCold(measured load.Target, pid int) (err error) {
	if r.verifyMicros, err = timeVerify(r.shape.Token); err != nil {
		return err
	}
	c := &coldTokens{fixture: r.fixture, perTurn: spare * 1e6 / r.verifyMicros}
	for _, address := range measured.Addresses {
		c.node = append(c.node, load.Node{Address: address})
	}
	r.cold = c
	measured.Requests, measured.Fresh = measured.Requests[:1], c.fresh
	if err := r.add(coldSubject, "", measured, pid); err != nil {
		return err
	}
	r.subjects[0].refill = c.refill
	return nil
}

// verifyKey is the public key of the run's own server, which signs with one only.
func (r *run) verifyKey(ctx context.Context) (string, error) {
	var published wire.JWKS
	if _, err := r.Client.Do(ctx, &client.Request{Method: http.MethodGet, Path: "/.well-known/jwks.json"}, &published); err != nil {
		return "", fmt.Errorf("reading the published keys: %w", err)
	}
	if len(published.Keys) != 1 {
		return "", fmt.Errorf("the server has %d keys; a new one has one", len(published.Keys))
	}
	return published.Keys[0].X, nil
}
