// A notebook behind Portico's access tokens: GET /notes wants notes:read, POST /notes wants notes:write. docs/protect-an-api.md tells how to run it.
package main

import (
	"cmp"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"sync"

	"github.com/portico-id/portico/broker/resource"
)

func main() {
	api, err := resource.New(resource.Options{
		Issuer:       cmp.Or(os.Getenv("ISSUER"), "http://127.0.0.1:8080"),
		Identifier:   cmp.Or(os.Getenv("IDENTIFIER"), "http://127.0.0.1:8090/notes"),
		ClientID:     os.Getenv("CLIENT_ID"), // for opaque tokens; without it, JWTs alone are taken
		ClientSecret: os.Getenv("CLIENT_SECRET"),
		Scopes:       []string{"notes:read", "notes:write"},
	})
	if err != nil {
		log.Fatal(err)
	}
	var book notebook
	mux := http.NewServeMux()
	mux.Handle("GET "+api.MetadataPath(), api.Metadata())
	mux.Handle("GET /notes", api.Protect(http.HandlerFunc(book.list), "notes:read"))
	mux.Handle("POST /notes", api.Protect(http.HandlerFunc(book.add), "notes:write"))
	log.Fatal(http.ListenAndServe(cmp.Or(os.Getenv("LISTEN"), "127.0.0.1:8090"), mux))
}

// Bounds of the notebook: it is in memory.
const (
	maxNotes = 1000
	maxNote  = 1000 // bytes
)

// notebook keeps everybody's notes.
type notebook struct {
	mu    sync.Mutex
	notes []note
}

type note struct {
	Owner string `json:"owner"`
	Text  string `json:"text"`
}

// list shows the notes of whoever the token speaks for.
func (b *notebook) list(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	mine := []note{}
	for _, n := range b.notes {
		if n.Owner == resource.FromContext(r.Context()).Subject {
			mine = append(mine, n)
		}
	}
	b.mu.Unlock()
	answer(w, http.StatusOK, mine)
}

// add writes a note down; the oldest makes room.
func (b *notebook) add(w http.ResponseWriter, r *http.Request) {
	n := note{Owner: resource.FromContext(r.Context()).Subject, Text: r.FormValue("text")}
	if n.Text == "" || len(n.Text) > maxNote {
		http.Error(w, "send text of 1 to 1000 bytes", http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	b.notes = append(b.notes[max(0, len(b.notes)-maxNotes+1):], n)
	b.mu.Unlock()
	answer(w, http.StatusCreated, n)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the only error is a client that hung up
}
