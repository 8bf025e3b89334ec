package archtest

import (
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// tree is the project's source, parsed.
type tree struct {
	fset  *token.FileSet
	files []*source
}

type source struct {
	name    string // relative to the root, with slashes
	dir     string
	test    bool
	ast     *ast.File
	imports []imported
}

type imported struct {
	path string
	pos  token.Pos
}

// parse reads every Go file of the project that can ever be built, whatever the platform.
func parse(root fs.FS) (*tree, error) {
	t := &tree{fset: token.NewFileSet()}
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			// Folders that the go command does not look into either, and what builds leave behind.
			base := entry.Name()
			if name != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || base == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		return t.add(name, text)
	})
	return t, err
}

func (t *tree) add(name string, text []byte) error {
	file, err := parser.ParseFile(t.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	if neverBuilt(file) {
		return nil
	}
	s := &source{name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), ast: file}
	for _, spec := range file.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return fmt.Errorf("%s: import %s: %w", name, spec.Path.Value, err)
		}
		s.imports = append(s.imports, imported{p, spec.Pos()})
	}
	t.files = append(t.files, s)
	return nil
}

// neverBuilt reports whether a file asks for the tag that is never set, by the custom of `//go:build ignore`.
func neverBuilt(file *ast.File) bool {
	for _, group := range file.Comments {
		if group.Pos() >= file.Package {
			return false
		}
		for _, comment := range group.List {
			expr, err := constraint.Parse(comment.Text)
			if tag, ok := expr.(*constraint.TagExpr); err == nil && ok && (tag.Tag == "ignore" || tag.Tag == "never") {
				return true
			}
		}
	}
	return false
}

// own returns the folder of an import path of this project.
func own(importPath string) (dir string, ok bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// standard reports whether the path is the standard library's: its first element has no dot.
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

// below reports whether name is parent or lies below it, as folders and import paths do. A major version's
// suffix counts as below.
func below(name, parent string) bool {
	return name == parent || strings.HasPrefix(name, parent+"/")
}

// roomOf returns the innermost room that holds the folder.
func roomOf(dir string) *room {
	var best *room
	for i := range rooms {
		r := &rooms[i]
		if below(dir, r.dir) && (best == nil || len(r.dir) > len(best.dir)) {
			best = r
		}
	}
	return best
}

func (t *tree) at(pos token.Pos) string {
	p := t.fset.Position(pos)
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// byDir groups the files that are not tests by folder, in a stable order.
func (t *tree) byDir() (dirs []string, files map[string][]*ast.File) {
	files = map[string][]*ast.File{}
	for _, s := range t.files {
		if s.test {
			continue
		}
		if files[s.dir] == nil {
			dirs = append(dirs, s.dir)
		}
		files[s.dir] = append(files[s.dir], s.ast)
	}
	slices.Sort(dirs)
	return dirs, files
}
