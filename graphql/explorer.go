package graphql

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"html"
	"net/http"
	"strings"

	"github.com/99designs/gqlgen/graphql/playground"
)

//go:embed explorer.graphql
var examples string

// NewExplorer serves GraphiQL, with three operations to try, for the API at that path of the same server. The page is
// gqlgen's own and takes GraphiQL from a CDN; where that is out of reach it shows the operations as text.
func NewExplorer(path string) http.Handler {
	page := explorerPage(path)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "use GET", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("X-Frame-Options", "DENY")
		_, _ = w.Write(page)
	})
}

// The two places of gqlgen's page that ours differs in.
const (
	propsPlace   = "plugins: plugins,"
	loadingPlace = `<div class="loading">Loading…</div>`
)

func explorerPage(path string) []byte {
	var made pageWriter
	playground.Handler("Tenure", path)(&made, nil)
	page := made.String()
	if strings.Count(page, propsPlace) != 1 || strings.Count(page, loadingPlace) != 1 {
		panic("graphql: gqlgen's GraphiQL page is not the one that the explorer knows")
	}
	page = strings.Replace(page, propsPlace, propsPlace+" defaultTabs: "+tabs()+",", 1)
	page = strings.Replace(page, loadingPlace, "<pre style=\"margin:2em\">"+html.EscapeString(hint(path))+"</pre>", 1)
	return []byte(page)
}

// tabs are GraphiQL's tabs as JSON, one for each example. Marshal escapes what could end the script.
func tabs() string {
	type tab struct {
		Query   string `json:"query"`
		Headers string `json:"headers"`
	}
	var all []tab
	for _, query := range strings.Split(strings.TrimSpace(examples), "\n\n\n") {
		all = append(all, tab{query + "\n", `{ "Authorization": "Bearer <the token that tenure dev printed>" }`})
	}
	b := new(bytes.Buffer)
	if err := json.NewEncoder(b).Encode(all); err != nil {
		panic(err) // strings always marshal
	}
	return strings.TrimSpace(b.String())
}

func hint(path string) string {
	return "Loading GraphiQL …\n\nWhere it cannot be loaded, any GraphQL client will do: POST " + path +
		"\nwith the header Authorization: Bearer TOKEN. Three operations to try:\n\n" + examples
}

// pageWriter keeps what gqlgen's handler writes.
type pageWriter struct{ strings.Builder }

func (*pageWriter) Header() http.Header { return http.Header{} }
func (*pageWriter) WriteHeader(int)     {}
