package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"path"
	"slices"
	"strings"
)

// clockReads are the functions of package time by which the hour gets into a result.
var clockReads = []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"}

// habits checks what the compiler allows and this project does not.
func (t *tree) habits() []violation {
	var found []violation
	report := func(pos token.Pos, what, reason string) {
		found = append(found, violation(fmt.Sprintf("%s %s\n\treason: %s", t.at(pos), what, reason)))
	}
	for _, s := range t.files {
		clock := timePackage(s)
		// In a bubble sleeping takes no time and is how the clock is moved.
		virtualTime := slices.ContainsFunc(s.imports, func(i imported) bool { return i.path == module+"/internal/virtualtime" })
		timeless, why := "", ""
		if r := roomOf(s.dir); r != nil && !s.test && !slices.Contains(stopwatches, s.name) {
			for _, m := range []map[string]string{pure, deterministic} {
				if reason, ok := m[r.dir]; ok {
					timeless, why = r.dir, reason
				}
			}
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil && n.Name.Name == "init" {
					report(n.Pos(), "declares init()", reasonInit)
				}
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if !ok || clock == "" || x.Name != clock {
					break
				}
				if s.test && n.Sel.Name == "Sleep" && !virtualTime {
					report(n.Pos(), "calls time.Sleep in a test", reasonSleep)
				}
				if timeless != "" && slices.Contains(clockReads, n.Sel.Name) {
					report(n.Pos(), "uses time."+n.Sel.Name+" in "+timeless, why)
				}
			}
			return true
		})
	}
	dirs, files := t.byDir()
	for _, dir := range dirs {
		found = append(found, t.mutableState(dir, files[dir])...)
	}
	return found
}

// timePackage returns the name under which a file knows package time, "" where it does not.
func timePackage(s *source) string {
	for _, spec := range s.ast.Imports {
		if spec.Path.Value == `"time"` {
			if spec.Name != nil {
				return spec.Name.Name
			}
			return "time"
		}
	}
	return ""
}

// mutableState finds package-level variables that are written to, or whose type is only of use to be.
func (t *tree) mutableState(dir string, files []*ast.File) []violation {
	var found []violation
	report := func(pos token.Pos, name, what string) {
		if _, ok := excused[path.Base(dir)+"."+name]; ok {
			return
		}
		found = append(found, violation(fmt.Sprintf("%s package variable %s %s\n\treason: %s", t.at(pos), name, what, reasonState)))
	}
	// Names are resolved by the type checker with empty imports: it then complains a lot, which is ignored,
	// but still knows for every name which declaration it means.
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: emptyImporter{}, Error: func(error) {}}
	pkg, _ := config.Check(module+"/"+dir, t.fset, files, info) //nolint:errcheck // see above

	variable := func(e ast.Expr) *types.Var {
		root := rootOf(e)
		if root == nil {
			return nil
		}
		v, ok := info.Uses[root].(*types.Var)
		if !ok || v.Parent() != pkg.Scope() {
			return nil
		}
		return v
	}
	for _, file := range files {
		for _, decl := range file.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				v := spec.(*ast.ValueSpec)
				if kind := lockOrAtomic(v.Type); kind != "" {
					report(v.Pos(), v.Names[0].Name, "is a "+kind)
				}
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for _, left := range n.Lhs {
					if v := variable(left); v != nil && n.Tok != token.DEFINE {
						report(n.Pos(), v.Name(), "is written to")
					}
				}
			case *ast.IncDecStmt:
				if v := variable(n.X); v != nil {
					report(n.Pos(), v.Name(), "is written to")
				}
			}
			return true
		})
	}
	return found
}

// rootOf returns x of x, x.f, x[i], *x and (x).
func rootOf(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// lockOrAtomic names a type that is of use for shared, changing state only. A sync.Pool is not: what it
// holds is nobody's, and sync.OnceValue is a constant that is computed late.
func lockOrAtomic(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.IndexExpr: // atomic.Pointer[T]
		return lockOrAtomic(x.X)
	case *ast.SelectorExpr:
		p, ok := x.X.(*ast.Ident)
		if !ok {
			return ""
		}
		if p.Name == "atomic" || (p.Name == "sync" && slices.Contains([]string{"Mutex", "RWMutex", "Map", "WaitGroup", "Once", "Cond"}, x.Sel.Name)) {
			return p.Name + "." + x.Sel.Name
		}
	}
	return ""
}

// emptyImporter gives every import an empty package.
type emptyImporter struct{}

func (emptyImporter) Import(importPath string) (*types.Package, error) {
	name := path.Base(importPath)
	if strings.HasPrefix(name, "v") && strings.Trim(name[1:], "0123456789") == "" {
		name = path.Base(path.Dir(importPath))
	}
	p := types.NewPackage(importPath, name)
	p.MarkComplete()
	return p, nil
}
