// Command streams is the upstream and the callers of the load test, in a process
// of its own: the race detector, which the test runs under, allows 8128
// goroutines. It takes commands, one a line, and answers each with one line:
//
//	open GATEWAY KEY MODEL N   opens N streams that go on: "N" when all have had an event
//	close                      ends them: how many ended as they should
//	big GATEWAY KEY MODEL N    reads an answer of N bytes: how many came
//
// The first line is where its upstream is.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	event = `data: {"choices":[{"index":0,"delta":{"content":"some more words"}}]}` + "\n\n"
	end   = `data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":6}}` + "\n\ndata: [DONE]\n\n"
)

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	p := &program{finish: make(chan struct{})}
	p.client.Transport = &http.Transport{Protocols: new(http.Protocols)}
	p.client.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	go func() { fmt.Println(http.Serve(l, http.HandlerFunc(p.serve))) }() //nolint:gosec // a test's
	fmt.Println("http://" + l.Addr().String())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		words := strings.Fields(in.Text())
		switch words[0] {
		case "open":
			n, _ := strconv.Atoi(words[4])
			fmt.Println(p.open(words[1], words[2], words[3], n))
		case "close":
			close(p.finish)
			p.under.Wait()
			fmt.Println(p.ended.Load())
		case "big":
			fmt.Println(p.big(words[1], words[2], words[3], words[4]))
		}
	}
}

type program struct {
	client http.Client
	finish chan struct{}  // closed by close
	under  sync.WaitGroup // streams under way
	ended  atomic.Int64   // streams that went to their end
}

// serve answers with as many bytes as x-bytes says, or goes on until finish.
func (p *program) serve(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("content-type", "text/event-stream")
	if n, err := strconv.Atoi(r.Header.Get("x-bytes")); err == nil {
		some := strings.Repeat(event, 500)
		for ; n > len(some)+len(end); n -= len(some) {
			if _, err := io.WriteString(w, some); err != nil {
				return
			}
		}
		_, _ = io.WriteString(w, ": "+strings.Repeat("x", n-len(end)-4)+"\n\n"+end)
		return
	}
	flusher := http.NewResponseController(w)
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		_, _ = io.WriteString(w, event)
		if flusher.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		case <-p.finish:
			_, _ = io.WriteString(w, end)
			return
		}
	}
}

func (p *program) request(gateway, key, model string) (*http.Request, error) {
	body := fmt.Sprintf(`{"model":%q,"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}`, model)
	req, err := http.NewRequest(http.MethodPost, "http://"+gateway+"/v1/chat/completions", strings.NewReader(body))
	if err == nil {
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("Content-Type", "application/json")
	}
	return req, err
}

// open returns how many streams have had their first event.
func (p *program) open(gateway, key, model string, n int) int64 {
	var opened atomic.Int64
	var tried sync.WaitGroup
	// As many at a time as two cores check well within a second: the test is of
	// what is open, not of a burst.
	limit := make(chan struct{}, 50)
	for range n {
		limit <- struct{}{}
		tried.Add(1)
		p.under.Add(1)
		go func() {
			defer p.under.Done()
			told := sync.OnceFunc(func() { <-limit; tried.Done() })
			defer told()
			req, err := p.request(gateway, key, model)
			if err != nil {
				return
			}
			res, err := p.client.Do(req)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return
			}
			defer res.Body.Close()
			lines := bufio.NewReaderSize(res.Body, 512)
			last := ""
			for first := true; ; first = false {
				line, err := lines.ReadString('\n')
				if err != nil {
					break
				}
				if first && res.StatusCode == http.StatusOK {
					opened.Add(1)
				}
				told()
				if line != "\n" {
					last = line
				}
			}
			if last == "data: [DONE]\n" {
				p.ended.Add(1)
			} else {
				fmt.Fprintln(os.Stderr, res.StatusCode, last)
			}
		}()
	}
	tried.Wait()
	return opened.Load()
}

// big reads an answer, with a pause in its middle in which Envoy could go on
// reading and fill its memory. It returns how many bytes came.
func (p *program) big(gateway, key, model, bytes string) int64 {
	req, err := p.request(gateway, key, model)
	if err != nil {
		return 0
	}
	req.Header.Set("x-bytes", bytes)
	res, err := p.client.Do(req)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	half, _ := strconv.ParseInt(bytes, 10, 64)
	n, _ := io.CopyN(io.Discard, res.Body, half/2)
	time.Sleep(time.Second)
	rest, _ := io.Copy(io.Discard, res.Body)
	return n + rest
}
