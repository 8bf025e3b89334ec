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
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

func (a *app) bulkCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "bulk",
		Short: "Load many objects at once",
	}, a.bulkLoad())
}

// maxReported bounds the refused lines that are told of one by one.
const maxReported = 20

func (a *app) bulkLoad() *cobra.Command {
	var ensurePrincipal, skipExisting bool
	cmd := &cobra.Command{
		Use:   "load FILE.jsonl|-",
		Short: "Load agents, principals and delegations from JSON lines",
		Long: `Load agents, principals and delegations, one JSON object a line:

  {"agent": {"profile": {"name": "a-1", "agent_type": "autonomous"}, "default_scopes": ["mail.read"]}}
  {"principal": {"id": "user@company.com"}}
  {"delegation": {"principal_id": "user@company.com", "agent_id": "a-1", "scopes": ["mail.read"], "duration_seconds": 3600}}

A line may rest on the lines before it. The file is sent in batches, each of which is one write; a line that
is refused does not stop the others. --timeout bounds one batch, not the whole file.`,
		Example: `  deputy bulk load fleet.jsonl
  generate-fleet | deputy bulk load - --skip-existing`,
		Args: exactly("the file"),
	}
	// A long file takes longer than one call may, so each batch gets the timeout for itself.
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.checkFormat(); err != nil {
			return err
		}
		c, err := a.client()
		if err != nil {
			return err
		}
		a.started = true
		source := a.in
		if args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			source = f
		}
		l := &loader{app: a, client: c, ensurePrincipal: ensurePrincipal, skipExisting: skipExisting}
		began := a.now()
		loadErr := l.load(cmd.Context(), source)
		l.summary.Seconds = a.now().Sub(began).Seconds()
		// Also after a failure it is good to know how far it came.
		if err := a.show(l.summary, l.summary.draw); err != nil {
			return err
		}
		if loadErr == nil && l.summary.Refused > 0 {
			loadErr = fmt.Errorf("%d of %d lines were refused", l.summary.Refused, l.summary.Lines)
		}
		return loadErr
	}
	cmd.Flags().BoolVar(&ensurePrincipal, "ensure-principal", false, "a delegation makes its principal where there is none")
	cmd.Flags().BoolVar(&skipExisting, "skip-existing", false, "objects that are there already are no failure")
	return cmd
}

type bulkSummary struct {
	Lines    int     `json:"lines"`
	Created  int     `json:"created"`
	Existing int     `json:"existing"`
	Refused  int     `json:"refused"`
	Batches  int     `json:"batches"`
	Seconds  float64 `json:"seconds"`
}

func (b *bulkSummary) draw(s *sheet) {
	s.field("Lines", count(b.Lines))
	s.field("Created", count(b.Created))
	if b.Existing > 0 {
		s.field("Existing", count(b.Existing))
	}
	s.field("Refused", count(b.Refused))
	s.field("Took", time.Duration(b.Seconds*float64(time.Second)).Round(time.Millisecond).String())
}

// loader gathers lines into batches.
type loader struct {
	*app
	client                        *client.Client
	ensurePrincipal, skipExisting bool
	summary                       bulkSummary

	batch bulkBatch
}

// bulkBatch is a body of POST /api/v1/bulk in the making, and the line that each item came from.
type bulkBatch struct {
	Agents      []json.RawMessage `json:"agents,omitempty"`
	Principals  []json.RawMessage `json:"principals,omitempty"`
	Delegations []json.RawMessage `json:"delegations,omitempty"`

	lines map[string][]int // by the list's name
	bytes int
	items int
}

// bulkLine is one line; exactly one of its fields is set.
type bulkLine struct {
	Agent      json.RawMessage `json:"agent"`
	Principal  json.RawMessage `json:"principal"`
	Delegation json.RawMessage `json:"delegation"`
}

const (
	// A body holds punctuation besides its items.
	maxBatchBytes = wire.MaxBodyBytes - 1024
	// A line is at most one body.
	maxLine = wire.MaxBodyBytes
)

func (l *loader) load(ctx context.Context, source io.Reader) error {
	lines := bufio.NewScanner(source)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	number := 0
	for lines.Scan() {
		number++
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		if err := l.add(ctx, number, bytes.Clone(text)); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("line %d: %w", number+1, err)
	}
	return l.send(ctx)
}

func (l *loader) add(ctx context.Context, number int, text []byte) error {
	var line bulkLine
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&line); err != nil {
		return fmt.Errorf("line %d is not an object with an agent, a principal or a delegation: %w", number, err)
	}
	var list *[]json.RawMessage
	var name string
	var item json.RawMessage
	set := 0
	for _, kind := range []struct {
		name string
		item json.RawMessage
		list *[]json.RawMessage
	}{
		{"agents", line.Agent, &l.batch.Agents},
		{"principals", line.Principal, &l.batch.Principals},
		{"delegations", line.Delegation, &l.batch.Delegations},
	} {
		if kind.item != nil {
			name, item, list = kind.name, kind.item, kind.list
			set++
		}
	}
	if set != 1 {
		return fmt.Errorf("line %d holds %d of agent, principal and delegation; it should hold one", number, set)
	}
	if len(item) > maxBatchBytes {
		return fmt.Errorf("line %d has %d bytes; at most %d fit into one request", number, len(item), maxBatchBytes)
	}
	if l.batch.items == wire.MaxBulkItems || l.batch.bytes+len(item)+1 > maxBatchBytes {
		if err := l.send(ctx); err != nil {
			return err
		}
	}
	if l.batch.lines == nil {
		l.batch.lines = map[string][]int{}
	}
	*list = append(*list, item)
	l.batch.lines[name] = append(l.batch.lines[name], number)
	l.batch.bytes += len(item) + 1
	l.batch.items++
	l.summary.Lines++
	return nil
}

// rateWaits bounds how often one batch waits because this caller asks too fast.
const rateWaits = 10

func (l *loader) send(ctx context.Context) error {
	batch := l.batch
	l.batch = bulkBatch{}
	if batch.items == 0 {
		return nil
	}
	answer, err := l.post(ctx, &batch)
	if err != nil {
		return fmt.Errorf("sending %s: %w", batch.span(), err)
	}
	l.summary.Batches++
	for _, item := range answer.Items {
		switch {
		case item.Status >= 200 && item.Status <= 299:
			l.summary.Created++
		case l.skipExisting && item.Code == identity.CodeAlreadyExists:
			l.summary.Existing++
		default:
			l.summary.Refused++
			l.report(&batch, &item)
		}
	}
	return nil
}

func (l *loader) post(ctx context.Context, batch *bulkBatch) (*wire.BulkAnswer, error) {
	for attempt := 0; ; attempt++ {
		call, cancel := context.WithTimeout(ctx, l.timeout)
		answer, err := l.client.Bulk(call, batch, l.ensurePrincipal)
		err = late(call, err, l.timeout)
		cancel()
		var refused *client.Error
		if !errors.As(err, &refused) || refused.Code != identity.CodeRateLimited || attempt == rateWaits {
			return answer, err
		}
		select {
		case <-time.After(max(refused.RetryAfter, 100*time.Millisecond)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *loader) report(batch *bulkBatch, item *wire.BulkOutcome) {
	if l.summary.Refused > maxReported {
		if l.summary.Refused == maxReported+1 {
			l.note("… and more; only the first %d are shown", maxReported)
		}
		return
	}
	detail := item.Detail
	for _, f := range item.Errors {
		detail += "; " + f.Pointer + " " + f.Detail
	}
	l.note("line %d: %s", batch.line(item.Pointer), detail)
}

// line finds the line of an item by its pointer, such as /agents/3.
func (b *bulkBatch) line(pointer string) int {
	list, index, _ := strings.Cut(strings.TrimPrefix(pointer, "/"), "/")
	i, err := strconv.Atoi(index)
	if err != nil || i < 0 || i >= len(b.lines[list]) {
		return 0
	}
	return b.lines[list][i]
}

// span names the lines of a batch.
func (b *bulkBatch) span() string {
	first, last := 0, 0
	for _, lines := range b.lines {
		for _, n := range lines {
			if first == 0 || n < first {
				first = n
			}
			last = max(last, n)
		}
	}
	return fmt.Sprintf("lines %d to %d", first, last)
}
