// Command sampleapp runs the sample app alone, against any broker:
//
//	SAMPLEAPP_ISSUER=… SAMPLEAPP_CLIENT_ID=… SAMPLEAPP_CLIENT_SECRET=… sampleapp
package main

import (
	"cmp"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/portico-id/portico/examples/sampleapp"
)

func main() {
	listen := cmp.Or(os.Getenv("SAMPLEAPP_LISTEN"), "127.0.0.1:8081")
	config := sampleapp.Config{
		Issuer:       cmp.Or(os.Getenv("SAMPLEAPP_ISSUER"), "http://127.0.0.1:8080"),
		ClientID:     os.Getenv("SAMPLEAPP_CLIENT_ID"),
		ClientSecret: os.Getenv("SAMPLEAPP_CLIENT_SECRET"),
		URL:          cmp.Or(os.Getenv("SAMPLEAPP_URL"), "http://127.0.0.1:8081"),
		API:          os.Getenv("SAMPLEAPP_API"),
	}
	if names := os.Getenv("SAMPLEAPP_CONNECTORS"); names != "" {
		config.Connectors = strings.Split(names, ",")
	}
	if config.ClientID == "" || config.ClientSecret == "" {
		log.Fatal("SAMPLEAPP_CLIENT_ID and SAMPLEAPP_CLIENT_SECRET are what `portico client add` printed")
	}
	app, err := sampleapp.New(config)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: listen, Handler: app, ReadHeaderTimeout: 10 * time.Second}
	log.Printf("sample app on %s, signing in at %s", config.URL, config.Issuer)
	log.Fatal(server.ListenAndServe())
}
