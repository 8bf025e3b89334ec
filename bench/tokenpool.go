package bench

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/deputy-id/deputy/bench/load"
)

const (
	// MaxPool bounds the tokens that are minted in advance: about 200 MB.
	MaxPool = 250_000
	// harvestTime bounds how long that may take.
	harvestTime = 2 * time.Minute
	// harvestStep is how often it is looked at whether there are enough.
	harvestStep = 100 * time.Millisecond
	// harvestConnections are those of the harvest.
	harvestConnections = 32
)

var tokenField = []byte(`"access_token":"`)

// tokenIn cuts the token out of the answer to a mint.
func tokenIn(body []byte) []byte {
	at := bytes.Index(body, tokenField)
	if at < 0 {
		return nil
	}
	rest := body[at+len(tokenField):]
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		return nil
	}
	return rest[:end]
}

// harvest mints tokens as fast as the nodes answer, until there are so many.
func harvest(ctx context.Context, nodes []load.Node, request []byte, count int) ([]string, error) {
	if count < 1 || count > MaxPool {
		return nil, fmt.Errorf("%d tokens are to be minted in advance; at most %d are: shorten the run or lower its rate", count, MaxPool)
	}
	var minted atomic.Int64
	connections := max(len(nodes), min(harvestConnections, count))
	gatherers := make([]*gatherer, connections)
	plan := load.Plan{
		Nodes: nodes, Operations: []string{"mint"},
		Work: func(connection, _ int) load.Work {
			gatherers[connection] = &gatherer{request: request, minted: &minted, want: int64(count)}
			return gatherers[connection]
		},
	}
	g, err := load.NewGenerator(plan, connections)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	for began := time.Now(); minted.Load() < int64(count); {
		sample, err := g.RunClosed(ctx, harvestStep)
		if err != nil {
			return nil, fmt.Errorf("minting tokens in advance: %w", err)
		}
		if sample.Succeeded() == 0 {
			return nil, fmt.Errorf("minting tokens in advance: nothing but failures: %v", sample.Failures())
		}
		if time.Since(began) > harvestTime {
			return nil, fmt.Errorf("minting tokens in advance: %d of %d after %s", minted.Load(), count, harvestTime)
		}
	}
	tokens := make([]string, 0, count)
	for _, each := range gatherers {
		tokens = append(tokens, each.tokens...)
	}
	return tokens[:count], nil
}

// gatherer is the work of one connection of a harvest.
type gatherer struct {
	request []byte
	minted  *atomic.Int64
	want    int64
	tokens  []string
}

func (g *gatherer) Next(call *load.Call) { call.Request = g.request }

func (g *gatherer) Judge(_ *load.Call, status int, body []byte) load.Failure {
	if status != 200 {
		return load.StatusFailure(status)
	}
	token := tokenIn(body)
	if token == nil {
		return load.FailureAnswer
	}
	if g.minted.Add(1) <= g.want+int64(harvestConnections) {
		g.tokens = append(g.tokens, string(token))
	}
	return ""
}

// asker spells questions about tokens, as the fixture's application asks them.
type asker struct {
	head string // up to the length of the body
	buf  []byte
}

func newAsker(f *fixture) *asker {
	whole := string(f.introspectRequest(""))
	const length = "Content-Length: "
	return &asker{head: whole[:bytes.Index([]byte(whole), []byte(length))+len(length)]}
}

// ask returns the request, which is good until the next. A token has no character that a form would escape.
func (a *asker) ask(token string) []byte {
	b := append(a.buf[:0], a.head...)
	b = strconv.AppendInt(b, int64(len("token=")+len(token)), 10)
	b = append(b, "\r\n\r\ntoken="...)
	a.buf = append(b, token...)
	return a.buf
}
