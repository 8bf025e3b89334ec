package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

// Output formats. Table is for people and may change; JSON and YAML are the API's own fields and don't.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

func formats() []string { return []string{formatTable, formatJSON, formatYAML} }

func (a *app) checkFormat() error {
	if !slices.Contains(formats(), a.output) {
		return usagef("--output is %q; it must be one of %s", a.output, strings.Join(formats(), ", "))
	}
	return nil
}

// show writes an answer in the format asked for; human draws the table.
func (a *app) show(v any, human func(*sheet)) error {
	switch a.output {
	case formatJSON:
		return writeJSON(a.out, v)
	case formatYAML:
		return writeYAML(a.out, v)
	}
	s := newSheet(a.out, a.now())
	human(s)
	return s.w.Flush()
}

// showPage writes one page of a list, and on standard error how to get the next.
func showPage[T any](a *app, p *client.Page[T], header string, row func(*sheet, *T)) error {
	items := p.Items
	if items == nil {
		items = []T{}
	}
	err := a.show(items, func(s *sheet) {
		s.row(strings.Fields(header)...)
		for i := range items {
			row(s, &items[i])
		}
	})
	if err == nil && p.Next != "" {
		fmt.Fprintf(a.err, "there are more: --after %s, or --all\n", printable(p.Next))
	}
	return err
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// writeYAML goes by way of JSON, so that both formats have the same fields in the same order.
func writeYAML(w io.Writer, v any) error {
	var text bytes.Buffer
	if err := writeJSON(&text, v); err != nil {
		return err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text.Bytes(), &document); err != nil {
		return fmt.Errorf("turning the answer into YAML: %w", err)
	}
	plain(&document)
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(&document); err != nil {
		return err
	}
	return e.Close()
}

// plain takes the braces and quotes of JSON off a YAML tree; the encoder quotes again what needs it.
func plain(n *yaml.Node) {
	if len(n.Content) > 0 || n.Kind == yaml.ScalarNode {
		n.Style = 0
	}
	for _, child := range n.Content {
		plain(child)
	}
}

// sheet draws aligned columns.
type sheet struct {
	w   *tabwriter.Writer
	now time.Time
}

func newSheet(w io.Writer, now time.Time) *sheet {
	return &sheet{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0), now: now}
}

func (s *sheet) row(cells ...string) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(s.w, "\t")
		}
		fmt.Fprint(s.w, dash(printable(cell)))
	}
	fmt.Fprintln(s.w)
}

// field draws one line of a single object, and nothing where there is no value.
func (s *sheet) field(name, value string) {
	if value != "" {
		fmt.Fprintf(s.w, "%s\t%s\n", name, printable(value))
	}
}

// gap leaves a line free; what follows has columns of its own.
func (s *sheet) gap() { fmt.Fprintln(s.w) }

// when tells a time as a person would: near ones by distance, far ones by date.
func (s *sheet) when(t identity.Instant) string {
	if t.IsZero() {
		return ""
	}
	d := t.Time().Sub(s.now)
	switch {
	case d > 48*time.Hour || d < -48*time.Hour:
		return t.Time().Format("2006-01-02 15:04Z")
	case d >= 0:
		return "in " + span(d)
	}
	return span(-d) + " ago"
}

// by tells the time by which something holds, which may be over.
func (s *sheet) by(t identity.Instant) string {
	switch d := t.Time().Sub(s.now); {
	case d <= 0:
		return "by now"
	case d > 48*time.Hour:
		return "by " + s.when(t)
	default:
		return "within " + span(d)
	}
}

// span is a duration in at most two units.
func span(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return units(d, time.Minute, "m", time.Second, "s")
	default:
		return units(d, time.Hour, "h", time.Minute, "m")
	}
}

func units(d, large time.Duration, largeName string, small time.Duration, smallName string) string {
	text := fmt.Sprintf("%d%s", d/large, largeName)
	if rest := d % large / small; rest > 0 {
		text += fmt.Sprintf("%d%s", rest, smallName)
	}
	return text
}

func secondsText(n int64) string { return span(time.Duration(n) * time.Second) }

func dash(cell string) string {
	if cell == "" {
		return "-"
	}
	return cell
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func joined[S ~string](items []S) string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = string(item)
	}
	return strings.Join(texts, " ")
}

// brief cuts a list or a text down to what a row can take; the single object shows all of it.
func brief(text string) string {
	const most = 48
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}

// printable keeps text from elsewhere from steering the terminal or the columns.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return '\uFFFD'
		}
		return r
	}, text)
}

// note tells the person at the terminal something beside the answer.
func (a *app) note(format string, args ...any) {
	fmt.Fprintln(a.err, printable(fmt.Sprintf(format, args...)))
}
