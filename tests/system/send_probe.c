/*
 * A program that sends through libringcap, in C, as others would write it. For sender_test.cc, which knows
 * what its frames look like.
 *
 *   send_probe ENGINE [-p PORT] [-o] [-n COUNT] [-f FIRST] [-l LENGTH] [-t TIMEOUT_MS] [-w | -e | -r ROUNDS]
 *
 * Queues COUNT frames of LENGTH bytes, numbered from FIRST on, waits for the port to be done with them,
 * prints what became of them. -o: over an attached consumer's connection. -w: says "queued" and waits to be
 * killed instead. -e: sends for ever. -r: opens, sends and closes so many times. Exit status: 0, or minus the
 * error.
 */
#include <ringcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kLongest = 16384, kNumberAt = 18 };

static struct {
  const char *engine, *port;
  int over_consumer, waits, for_ever;
  unsigned count, first, length, rounds;
  int timeout_ms;
} ask = {.count = 1, .length = 60, .rounds = 1, .timeout_ms = 10000};

static void make_frame(unsigned char* frame, unsigned length, uint64_t number) {
  for (unsigned i = 0; i < length; i++) frame[i] = (unsigned char)(number + i * 7);
  frame[0] = frame[6] = 2;
  frame[12] = 0x88;
  frame[13] = 0xb5;
  if (length >= kNumberAt + sizeof number) memcpy(frame + kNumberAt, &number, sizeof number);
}

static int failed(int result, const struct ringcap_error* error) {
  fprintf(stderr, "%d: %s: %s\n", result, error->text, error->mend);
  return -result;
}

static int send_all(ringcap_sender_t* sender) {
  static unsigned char data[64][kLongest];
  struct ringcap_frame frames[64];
  unsigned queued = 0;
  while (queued < ask.count || ask.for_ever) {
    unsigned some = ask.for_ever || ask.count - queued > 64 ? 64 : ask.count - queued;
    for (unsigned i = 0; i < some; i++) {
      make_frame(data[i], ask.length, ask.first + queued + i);
      frames[i] = (struct ringcap_frame){data[i], ask.length};
    }
    int result = ringcap_send(sender, frames, some, ask.timeout_ms);
    if (result < 0) return failed(result, ringcap_sender_error(sender));
    queued += (unsigned)result;
    if ((unsigned)result < some && !ask.for_ever) break;
  }
  return 0;
}

static int report(ringcap_sender_t* sender) {
  struct ringcap_send_counters c;
  int result = ringcap_send_flush(sender, ask.timeout_ms);
  if (result < 0) return failed(result, ringcap_sender_error(sender));
  if ((result = ringcap_send_stats(sender, &c)) != RINGCAP_OK) return -result;
  printf("asked %llu sent %llu refused %llu dropped %llu pending %llu\n", (unsigned long long)c.asked,
         (unsigned long long)c.sent, (unsigned long long)c.refused, (unsigned long long)c.dropped,
         (unsigned long long)c.pending);
  return 0;
}

static int once(ringcap_t* consumer) {
  struct ringcap_error error;
  ringcap_sender_t* sender;
  int result = consumer != NULL ? ringcap_sender_of(consumer, ask.port, &sender, &error)
                                : ringcap_sender_open(ask.engine, ask.port, &sender, &error);
  if (result != RINGCAP_OK) return failed(result, &error);
  result = send_all(sender);
  if (ask.waits && result == 0) {
    puts("queued");
    fflush(stdout);
    pause();
  }
  if (result == 0) result = report(sender);
  ringcap_sender_close(sender);
  return result;
}

int main(int argc, char** argv) {
  if (argc < 2) return 99;
  ask.engine = argv[1];
  argv[1] = argv[0];
  for (int option; (option = getopt(argc - 1, argv + 1, "p:on:f:l:t:wer:")) != -1;) {
    if (option == 'p') ask.port = optarg;
    if (option == 'o') ask.over_consumer = 1;
    if (option == 'n') ask.count = (unsigned)atoi(optarg);
    if (option == 'f') ask.first = (unsigned)atoi(optarg);
    if (option == 'l') ask.length = (unsigned)atoi(optarg);
    if (option == 't') ask.timeout_ms = atoi(optarg);
    if (option == 'w') ask.waits = 1;
    if (option == 'e') ask.for_ever = 1;
    if (option == 'r') ask.rounds = (unsigned)atoi(optarg);
    if (option == '?') return 99;
  }
  ringcap_t* consumer = NULL;
  struct ringcap_error error;
  int result = ask.over_consumer ? ringcap_attach(ask.engine, NULL, &consumer, &error) : RINGCAP_OK;
  if (result != RINGCAP_OK) return failed(result, &error);
  for (unsigned i = 0; i < ask.rounds && result == 0; i++) result = once(consumer);
  if (consumer != NULL) ringcap_detach(consumer);
  return result;
}
