package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/deputy-id/deputy/bench/result"
)

// Table writes a result for a terminal. That of an invalid run says so first and last, as figures between are copied.
func Table(w io.Writer, r *result.Result) error {
	p := &lines{w: w}
	if !r.Verdict.Valid {
		p.line("%s", verdictLine(r))
		p.line("")
	}
	p.line("%s", title(r))
	if len(r.Command) > 0 {
		p.line("%s", CommandLine(r.Command))
	}
	p.line("%s", loadLine(r))
	e := &r.Environment
	p.line("%s, %d CPUs, kernel %s, %s %s, GOMAXPROCS=%d, deputy %s", e.CPU, e.CPUs, e.Kernel, e.Go, e.OS, e.GOMAXPROCS, e.Version)
	if e.Pinned {
		p.line("servers on CPU %s, generator on CPU %s", cpus(e.ServerCPUs, true), cpus(e.GeneratorCPUs, true))
	}
	if line := schedulingLine(e); line != "" {
		p.line("scheduling: %s", line)
	}
	p.line("fsync: %s", fsyncLine(e.Fsync))
	for _, g := range grids(r) {
		p.line("")
		p.grid(&g)
	}
	p.line("")
	if r.SLO != nil {
		p.line("service level %s", sloLine(r))
	}
	for _, note := range r.Notes {
		p.line("note: %s", note)
	}
	p.line("%s", verdictLine(r))
	return p.err
}

// lines writes until the first error, and keeps it.
type lines struct {
	w   io.Writer
	err error
}

func (p *lines) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.w, plain(fmt.Sprintf(format, args...)))
	}
}

func (p *lines) grid(g *grid) {
	p.line("%s", g.Title)
	tab := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{g.Head}, g.Rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = plain(cell)
		}
		if p.err == nil {
			_, p.err = fmt.Fprintln(tab, "  "+strings.Join(cells, "\t"))
		}
	}
	if err := tab.Flush(); p.err == nil {
		p.err = err
	}
}
