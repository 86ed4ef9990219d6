// Command sampleapi runs the sample API alone, against any broker:
//
//	SAMPLEAPI_ISSUER=… SAMPLEAPI_URL=… SAMPLEAPI_CLIENT_ID=… SAMPLEAPI_CLIENT_SECRET=… sampleapi
package main

import (
	"cmp"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/portico-id/portico/examples/sampleapi"
)

func main() {
	listen := cmp.Or(os.Getenv("SAMPLEAPI_LISTEN"), "127.0.0.1:8084")
	config := sampleapi.Config{
		Issuer:       cmp.Or(os.Getenv("SAMPLEAPI_ISSUER"), "http://127.0.0.1:8080"),
		URL:          cmp.Or(os.Getenv("SAMPLEAPI_URL"), "http://127.0.0.1:8084"),
		ClientID:     os.Getenv("SAMPLEAPI_CLIENT_ID"),
		ClientSecret: os.Getenv("SAMPLEAPI_CLIENT_SECRET"),
	}
	if config.ClientID == "" || config.ClientSecret == "" {
		log.Fatal("SAMPLEAPI_CLIENT_ID and SAMPLEAPI_CLIENT_SECRET are those of a client whose resource_server_of names SAMPLEAPI_URL")
	}
	api, err := sampleapi.New(config)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: listen, Handler: api, ReadHeaderTimeout: 10 * time.Second}
	log.Printf("sample API on %s, for tokens of %s", config.URL, config.Issuer)
	log.Fatal(server.ListenAndServe())
}
