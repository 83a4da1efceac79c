package journal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Goal: the table is what the sources say. Every line of Info and above in the product's folders
// names its event, the event is in the table with the level of the call, and every event of the
// table is used. Method: read the sources.
func TestEvents_Sources(t *testing.T) {
	used := map[string]bool{}
	calls := 0
	for _, folder := range []string{"agent", "nfsgw", "replica"} {
		walkGo(t, filepath.Join("../..", folder), func(at string, call *ast.CallExpr) {
			level, logs := levelOf(call)
			event := eventOf(call)
			switch {
			case event != "":
				used[event] = true
				e, known := table()[event]
				if !known {
					t.Errorf("%s: event %q is not in the table (agent/journal/events.go)", at, event)
				} else if logs && e.Level != level {
					t.Errorf("%s: event %q is logged as %v, the table has it as %v", at, event, level, e.Level)
				}
			case logs && level >= slog.LevelInfo:
				t.Errorf(`%s: this line has no event: add "event", NAME, and NAME to the table (agent/journal/events.go)`, at)
			}
			if logs {
				calls++
			}
		})
	}
	if calls < 40 {
		t.Errorf("only %d log calls were found: does this test still know them?", calls)
	}
	for _, e := range Events() {
		if !used[e.Name] {
			t.Errorf("event %q is in the table and used nowhere: remove it", e.Name)
		}
	}
}

// walkGo visits the calls in the Go files below dir, tests left out.
func walkGo(t *testing.T, dir string, visit func(at string, call *ast.CallExpr)) {
	t.Helper()
	set := token.NewFileSet()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				visit(set.Position(call.Pos()).String(), call)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// levelOf reports whether a call is one of a logger's, which the code base calls log, Log or logger,
// and its level.
func levelOf(call *ast.CallExpr) (slog.Level, bool) {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) == 0 {
		return 0, false
	}
	var receiver string
	switch x := method.X.(type) {
	case *ast.Ident:
		receiver = x.Name
	case *ast.SelectorExpr:
		receiver = x.Sel.Name
	}
	if receiver != "log" && receiver != "Log" && receiver != "logger" {
		return 0, false
	}
	level, known := map[string]slog.Level{"Debug": slog.LevelDebug, "Info": slog.LevelInfo,
		"Warn": slog.LevelWarn, "Error": slog.LevelError}[method.Sel.Name]
	return level, known
}

// eventOf is the event that a call names, "" when it names none.
func eventOf(call *ast.CallExpr) string {
	for i, arg := range call.Args[:max(len(call.Args)-1, 0)] {
		if literal(arg) == "event" {
			return literal(call.Args[i+1])
		}
	}
	return ""
}

func literal(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	text, _ := strconv.Unquote(lit.Value) // the parser has accepted it
	return text
}

// Goal: names and ids are unique and well-formed, texts are whole.
func TestEvents_Table(t *testing.T) {
	names, ids := map[string]bool{}, map[string]bool{}
	for _, e := range Events() {
		if !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(e.Name) || names[e.Name] {
			t.Errorf("name %q: malformed, or twice", e.Name)
		}
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(e.ID) || ids[e.ID] {
			t.Errorf("%s: id %q: malformed, or twice", e.Name, e.ID)
		}
		names[e.Name], ids[e.ID] = true, true
		if _, known := table()[e.Ends]; e.Ends != "" && !known {
			t.Errorf("%s ends %q, which is not in the table", e.Name, e.Ends)
		}
		if e.Text == "" || strings.HasSuffix(e.Text, ".") || e.Meaning == "" || strings.Contains(e.Meaning+e.Next, "  ") {
			t.Errorf("%s: text %q, meaning %q, next %q", e.Name, e.Text, e.Meaning, e.Next)
		}
	}
}
