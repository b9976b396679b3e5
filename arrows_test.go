package main

// The rooms use names in one direction only: layers says which rooms a room may use.

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// layer is a group of rooms. Each may use the rooms that stand before it in the layer and all rooms of the layers named.
type layer struct {
	name  string
	rooms []string
	uses  []string
}

// layers are those of ARCHITECTURE.md, the lowest first.
var layers = []layer{
	{"foundation", []string{"system_linux", "cost", "openfiles_unix", "limits", "breaker", "build", "cgroup", "parsers", "otlp_settings", "settings", "misnamed", "settings_read", "answers", "escape", "admission"}, nil},
	{"record", []string{"bounds", "record", "attributes", "propagate"}, []string{"foundation"}},
	{"views", []string{"console", "log", "outcomes", "families", "metrics", "scrape", "spans", "collector", "traces", "gauges", "waterfall", "recorder"}, []string{"foundation", "record"}},
	{"observability", []string{"connections", "response", "observe", "slowtrace", "pprof"}, []string{"foundation", "record", "views"}},
	{"text", []string{"stem", "fold", "chars", "runs", "words", "terms", "spelling", "question", "correction", "embed", "embed_api", "embed_remote"}, []string{"foundation", "record"}},
	{"documents", []string{"lines", "fields", "yaml", "toml", "frontmatter", "tree", "callouts", "tags", "leaves", "blocks", "inline", "inlines", "emphasis", "brackets", "autolinks", "phrases", "budget", "headings", "pieces", "markdown", "documents", "store", "leftout", "notify_linux", "progress", "durable", "scan", "mounts", "folder"}, []string{"foundation", "record", "observability", "text"}},
	{"memory", []string{"index", "vectors", "corpus", "ranking", "fusion", "memory"}, []string{"foundation", "record", "observability", "text", "documents"}},
	{"database", []string{"frequencies", "dbpool", "dberrors", "transaction", "changes", "recent", "postgres", "dbhealth", "replicas", "writes", "rank_sql", "search", "queries", "upkeep"}, []string{"foundation", "record", "observability", "text", "documents"}},
	{"rendering", []string{"markup", "targets", "render_inlines", "render_leaves", "render", "links", "linktargets", "contents"}, []string{"text", "documents"}},
	{"service", []string{"signin", "guard", "address", "parameters", "gaps", "health", "nearby", "handlers", "llms", "bulk", "page", "read", "files", "signin_form"}, []string{"foundation", "record", "views", "observability", "documents", "rendering"}},
	{"agents", []string{"members", "jsonrpc", "reply", "stream", "subscriptions", "streams", "call", "arguments", "sections", "quote", "results", "tools", "report", "connector", "identity", "resources", "methods", "mcp"}, []string{"foundation", "record", "observability", "documents", "service"}},
	{"entry", []string{"signals", "routes", "server", "questions", "check", "command", "greeting", "main"}, []string{"foundation", "record", "views", "observability", "text", "documents", "memory", "database", "rendering", "service", "agents"}},
}

// arrow says that a room uses a name that another room declares.
type arrow struct{ from, to, name string }

// arrows returns the uses of package-level names and methods between the rooms in dir. The receiver of a method is no use of its
// type, nor is the server struct, which the rooms of the service and of the agents share.
func arrows(t *testing.T, dir string) []arrow {
	t.Helper()
	fset := token.NewFileSet()
	var files []*ast.File
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		isBuilt, err := build.Default.MatchFile(".", name) // not for another system
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "_test.go") || !isBuilt {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", exportData(t))}
	pkg, err := config.Check("vitrine", fset, files, info)
	if err != nil {
		t.Fatal(err)
	}
	receivers := make(map[*ast.Ident]bool)
	for _, file := range files {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil {
				ast.Inspect(f.Recv, func(n ast.Node) bool {
					if id, ok := n.(*ast.Ident); ok {
						receivers[id] = true
					}
					return true
				})
			}
		}
	}
	room := func(pos token.Pos) string {
		return strings.TrimSuffix(filepath.Base(fset.Position(pos).Filename), ".go")
	}
	var found []arrow
	for id, object := range info.Uses {
		if object.Pkg() != pkg || receivers[id] || object.Name() == "server" {
			continue
		}
		f, isFunc := object.(*types.Func)
		isMethod := isFunc && f.Signature().Recv() != nil
		if from, to := room(id.Pos()), room(object.Pos()); from != to && (isMethod || object.Parent() == pkg.Scope()) {
			found = append(found, arrow{from, to, object.Name()})
		}
	}
	return found
}

// exportData returns a lookup of the compiled packages that the program imports, which go list builds or finds.
func exportData(t *testing.T) importer.Lookup {
	t.Helper()
	out, err := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}}={{.Export}}", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	exports := make(map[string]string)
	for line := range strings.Lines(string(bytes.TrimSpace(out))) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "=")
		exports[path] = file
	}
	return func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
}

func TestArrows(t *testing.T) {
	allowed := make(map[string][]string) // by room
	inLayer := make(map[string][]string)
	for _, l := range layers {
		inLayer[l.name] = l.rooms
		var below []string
		for _, name := range l.uses {
			below = append(below, inLayer[name]...)
		}
		for i, room := range l.rooms {
			allowed[room] = slices.Concat(below, l.rooms[:i])
		}
	}
	wrong := make(map[string][]string)
	for _, a := range arrows(t, ".") {
		if _, ok := allowed[a.from]; !ok {
			t.Fatalf("%s.go stands in no layer", a.from)
		}
		if !slices.Contains(allowed[a.from], a.to) {
			key := fmt.Sprintf("%s.go uses %s.go", a.from, a.to)
			wrong[key] = append(wrong[key], a.name)
		}
	}
	for key, names := range wrong {
		slices.Sort(names)
		t.Errorf("%s: %s", key, strings.Join(slices.Compact(names), ", "))
	}
}
