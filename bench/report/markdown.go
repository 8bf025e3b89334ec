package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/deputy-id/deputy/bench/result"
)

// Markdown writes results as a chapter each, under headings of the given level: the command that printed the figures
// first, then the figures, then the machine.
func Markdown(w io.Writer, level int, results ...*result.Result) error {
	p := &markdown{w: w}
	for i, r := range results {
		if i > 0 {
			p.line("")
		}
		p.chapter(strings.Repeat("#", max(1, level)), r)
	}
	return p.err
}

type markdown struct {
	w   io.Writer
	err error
}

func (p *markdown) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *markdown) chapter(heading string, r *result.Result) {
	p.line("%s %s", heading, inMarkdown(title(r)))
	p.line("")
	if len(r.Command) > 0 {
		p.line("    %s", plain(CommandLine(r.Command)))
		p.line("")
	}
	if !r.Verdict.Valid {
		p.line("**%s**", inMarkdown(verdictLine(r)))
		p.line("")
	}
	p.line("%s.", inMarkdown(capital(loadLine(r))))
	for _, g := range grids(r) {
		p.line("")
		p.line("%s:", inMarkdown(g.Title))
		p.line("")
		p.grid(&g)
	}
	p.line("")
	if r.SLO != nil {
		p.line("Service level %s.", inMarkdown(sloLine(r)))
		p.line("")
	}
	for _, note := range r.Notes {
		p.line("- Note: %s.", inMarkdown(note))
	}
	if len(r.Notes) > 0 {
		p.line("")
	}
	var machine []string
	for _, f := range facts(r) {
		machine = append(machine, f.Name+" "+f.Value)
	}
	p.line("On: %s.", inMarkdown(strings.Join(machine, "; ")))
	if !r.Verdict.Valid {
		p.line("")
		p.line("**%s**", inMarkdown(verdictLine(r)))
	}
}

func (p *markdown) grid(g *grid) {
	rule := make([]string, len(g.Head))
	for i := range rule {
		rule[i] = "---:"
		if i < g.Texts {
			rule[i] = "---"
		}
	}
	p.row(g.Head)
	p.line("|%s|", strings.Join(rule, "|"))
	for _, row := range g.Rows {
		p.row(row)
	}
}

func (p *markdown) row(cells []string) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		texts[i] = inMarkdown(cell)
	}
	p.line("| %s |", strings.Join(texts, " | "))
}

// inMarkdown has text mean itself: no markup, no HTML, no end of a cell or a line.
func inMarkdown(text string) string {
	return strings.NewReplacer(
		`\`, `\\`, "|", `\|`, "*", `\*`, "_", `\_`, "`", "\\`", "[", `\[`, "]", `\]`, "<", "&lt;", "&", "&amp;",
	).Replace(plain(text))
}

func capital(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
