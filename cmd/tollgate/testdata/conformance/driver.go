// Driver tells what the Go SDKs make of each answer: driver < cases > outcomes. A
// case and an outcome are a line of JSON each; see ../../conformance_test.go. It is
// a module of its own, so that the SDKs are not Tollgate's.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

type testCase struct {
	Name, SDK, Base, Key, Model, Do string
	Headers                         map[string]string
	Body                            map[string]any
	Size                            int
	Max                             int64
}

type outcome struct {
	Name      string `json:"name"`
	Class     string `json:"class"`
	Status    int    `json:"status"`
	Code      string `json:"code"`
	Type      string `json:"type"`
	Message   string `json:"message"`
	RequestID string `json:"requestId"`
	Body      string `json:"body"`
}

func (c *testCase) prompt() string {
	if c.Size > 0 {
		return strings.Repeat("x", c.Size)
	}
	return "hi"
}

func (c *testCase) askOpenAI(ctx context.Context) error {
	options := []option.RequestOption{option.WithBaseURL(c.Base), option.WithAPIKey(c.Key)}
	for name, value := range c.Headers {
		options = append(options, option.WithHeader(name, value))
	}
	for name, value := range c.Body {
		options = append(options, option.WithJSONSet(name, value))
	}
	if c.Do == "keyless" {
		options = append(options, option.WithHeaderDel("authorization"))
	}
	client := openai.NewClient(options...)
	if c.Do == "path" {
		var nothing any
		return client.Get(ctx, "nothing-here", nil, &nothing)
	}
	_, err := client.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{
		Model: c.Model, MaxTokens: openai.Int(c.Max), Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(c.prompt())},
	})
	return err
}

func (c *testCase) askAnthropic(ctx context.Context) error {
	options := []anthropicoption.RequestOption{anthropicoption.WithBaseURL(c.Base), anthropicoption.WithAPIKey(c.Key)}
	for name, value := range c.Headers {
		options = append(options, anthropicoption.WithHeader(name, value))
	}
	for name, value := range c.Body {
		options = append(options, anthropicoption.WithJSONSet(name, value))
	}
	if c.Do == "keyless" {
		options = append(options, anthropicoption.WithHeaderDel("x-api-key"), anthropicoption.WithHeaderDel("authorization"))
	}
	client := anthropic.NewClient(options...)
	if c.Do == "path" {
		var nothing any
		return client.Get(ctx, "nothing-here", nil, &nothing)
	}
	_, err := client.Messages.New(ctx, anthropic.MessageNewParams{
		Model: anthropic.Model(c.Model), MaxTokens: c.Max, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(c.prompt()))},
	})
	return err
}

func (c *testCase) outcome(ctx context.Context) outcome {
	o := outcome{Name: c.Name, Class: "none"}
	if c.Max == 0 {
		c.Max = 8
	}
	var err error
	if c.SDK == "openai" {
		err = c.askOpenAI(ctx)
	} else {
		err = c.askAnthropic(ctx)
	}
	var ofOpenAI *openai.Error
	var ofAnthropic *anthropic.Error
	switch {
	case err == nil:
	case errors.As(err, &ofOpenAI):
		o.Class, o.Status, o.Code, o.Type, o.Message = "Error", ofOpenAI.StatusCode, ofOpenAI.Code, ofOpenAI.Type, ofOpenAI.Message
		o.RequestID, o.Body = ofOpenAI.Response.Header.Get("x-request-id"), ofOpenAI.RawJSON()
	case errors.As(err, &ofAnthropic):
		var body struct {
			Error struct{ Type, Message string }
		}
		_ = json.Unmarshal([]byte(ofAnthropic.RawJSON()), &body)
		o.Class, o.Status, o.Type, o.Message = "Error", ofAnthropic.StatusCode, body.Error.Type, body.Error.Message
		o.RequestID, o.Body = ofAnthropic.RequestID, ofAnthropic.RawJSON()
	default:
		o.Class, o.Message = "other", err.Error()
	}
	return o
}

// All at once: what one waits for must not pass while another one waits.
func main() {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	var outcomes []chan outcome
	for {
		var c testCase
		if err := in.Decode(&c); err != nil {
			break
		}
		o := make(chan outcome, 1)
		outcomes = append(outcomes, o)
		go func() { o <- c.outcome(context.Background()) }()
	}
	for _, o := range outcomes {
		if err := out.Encode(<-o); err != nil {
			panic(err)
		}
	}
}
