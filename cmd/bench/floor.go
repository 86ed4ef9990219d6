package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"
)

// rsaBits is the size of the broker's RSA keys.
const rsaBits = 2048

// runFloor serves the least that any such server does: HTTP, JSON, and one signature. What the broker costs above it is its own.
func runFloor() error {
	es256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	rs256, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return err
	}
	answer := func(w http.ResponseWriter, body any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(body) // the only error is a client that hung up
	}
	signed := func(sign func(digest []byte) ([]byte, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if err := r.ParseForm(); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			digest := sha256.Sum256([]byte(r.PostForm.Get("a") + time.Now().String()))
			signature, err := sign(digest[:])
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			answer(w, map[string]string{"token": base64.RawURLEncoding.EncodeToString(signature)})
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/json", func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]string{"hello": "world"}) })
	mux.HandleFunc("/es256", signed(func(digest []byte) ([]byte, error) { return ecdsa.SignASN1(rand.Reader, es256, digest) }))
	mux.HandleFunc("/rs256", signed(func(digest []byte) ([]byte, error) {
		return rsa.SignPKCS1v15(nil, rs256, crypto.SHA256, digest)
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + l.Addr().String())
	return (&http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}).Serve(l)
}
