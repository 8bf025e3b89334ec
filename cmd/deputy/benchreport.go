package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/bench/report"
	"github.com/deputy-id/deputy/bench/result"
)

// Between these lines of a Markdown file, --into writes; everything else is left as it is.
const (
	figuresBegin = "<!-- figures: written by deputy bench report; what is changed by hand is lost -->"
	figuresEnd   = "<!-- end of figures -->"
)

func (a *app) benchReport() *cobra.Command {
	var page, into string
	var markdown, combine bool
	var level int
	cmd := &cobra.Command{
		Use:   "report FILE...",
		Short: "Show results again: as tables, Markdown, or one page of HTML",
		Long: `Show results that --json has written: files, or folders of files. With --combine runs of the same benchmark under the
same load are put together: histograms are merged, rates and shares are the runs' medians, and their ranges are shown.

--html writes one page that needs nothing else to open. --into writes Markdown between the two lines

  ` + figuresBegin + `
  ` + figuresEnd + `

of a file, so that every figure there was printed by the command beside it.`,
		Example: `  deputy bench report mint.json --html mint.html
  deputy bench report runs/ --combine
  deputy bench report bin/bench --combine --markdown --into docs/performance.md`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usagef("FILE is missing: a result that --json has written, or a folder of them")
			case into != "" && !markdown:
				return usagef("--into needs --markdown: that is what it writes")
			case level < 1 || level > 6:
				return usagef("--level is %d; headings have levels 1 to 6", level)
			}
			return nil
		},
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if err := a.checkFormat(); err != nil {
			return err
		}
		a.started = true
		results, err := result.ReadAll(args...)
		if err != nil {
			return err
		}
		if combine {
			groups := result.Group(results)
			results = results[:0]
			for _, group := range groups {
				sum, err := result.Combine(group...)
				if err != nil {
					return err
				}
				results = append(results, sum)
			}
		}
		if page != "" {
			if len(results) > 1 {
				return fmt.Errorf("%d results do not fit on one page; name one, or --combine them", len(results))
			}
			if err := writePage(page, results[0]); err != nil {
				return err
			}
		}
		switch {
		case into != "":
			return figuresInto(into, level, results)
		case markdown:
			return report.Markdown(a.out, level, results...)
		case page != "":
			return nil
		}
		return a.showResults(results)
	}
	flags := cmd.Flags()
	flags.StringVar(&page, "html", "", "write one page of HTML to this file")
	flags.BoolVar(&markdown, "markdown", false, "write Markdown")
	flags.IntVar(&level, "level", 3, "level of the Markdown's headings")
	flags.StringVar(&into, "into", "", "with --markdown: write it between the marks of this file")
	flags.BoolVar(&combine, "combine", false, "put runs of the same benchmark under the same load together")
	return cmd
}

func (a *app) showResults(results []*result.Result) error {
	for i, r := range results {
		var err error
		switch a.output {
		case formatJSON:
			err = r.Write(a.out)
		case formatYAML:
			err = writeYAML(a.out, r)
		default:
			if i > 0 {
				fmt.Fprintln(a.out)
			}
			err = report.Table(a.out, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writePage writes a result as HTML to a file, which it replaces.
func writePage(name string, r *result.Result) error {
	return writeFile(name, func(w io.Writer) error { return report.HTML(w, r) })
}

// writeFile writes the whole text first, so that what goes wrong leaves the file as it was.
func writeFile(name string, write func(io.Writer) error) error {
	var text bytes.Buffer
	if err := write(&text); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return os.WriteFile(name, text.Bytes(), 0o644)
}

var errNoMarks = errors.New("it has no place for figures")

// figuresInto replaces what stands between the marks of a file.
func figuresInto(name string, level int, results []*result.Result) error {
	old, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, begun := strings.Cut(string(old), figuresBegin+"\n")
	_, after, ended := strings.Cut(rest, figuresEnd)
	if !begun || !ended {
		return fmt.Errorf("%s: %w: put the lines %q and %q where they are to go", name, errNoMarks, figuresBegin, figuresEnd)
	}
	return writeFile(name, func(w io.Writer) error {
		if _, err := io.WriteString(w, before+figuresBegin+"\n\n"); err != nil {
			return err
		}
		if err := report.Markdown(w, level, results...); err != nil {
			return err
		}
		_, err := io.WriteString(w, "\n"+figuresEnd+after)
		return err
	})
}
