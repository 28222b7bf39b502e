/* Counts frames and bytes of a running engine, a line per burst:  example NAME
 * Build: cc example.c $(pkg-config --cflags --libs ringcap) -o example */
#include <inttypes.h>
#include <ringcap.h>
#include <stdio.h>

int main(int argc, char** argv) {
  struct ringcap_error error;
  struct ringcap_burst burst;
  struct ringcap_counters counters;
  ringcap_t* handle;
  uint64_t frames = 0, bytes = 0;
  int got;

  if (argc != 2) {
    fprintf(stderr, "usage: example NAME\n");
    return 2;
  }
  if (ringcap_attach(argv[1], NULL, &handle, &error) != RINGCAP_OK) {
    fprintf(stderr, "%s\n%s\n", error.text, error.mend);
    return 1;
  }
  /* Waits for the first frame of a burst as long as it takes; ends when the engine's sources do. */
  while ((got = ringcap_take(handle, 0, -1, &burst)) > 0) {
    for (uint32_t i = 0; i < burst.count; i++) {
      const struct ringcap_descriptor* d = &burst.frames[i];
      const uint8_t* frame = burst.arena + RINGCAP_OFFSET(d); /* d->captured bytes, read-only */
      (void)frame;
      bytes += d->length;
    }
    frames += burst.count;
    ringcap_give_back(handle, &burst);
  }
  ringcap_stats(handle, &counters);
  printf("%" PRIu64 " frames, %" PRIu64 " bytes, %" PRIu64 " lost\n", frames, bytes, counters.dropped);
  if (got != RINGCAP_END) fprintf(stderr, "%s\n", ringcap_last_error(handle)->text);
  ringcap_detach(handle);
  return got == RINGCAP_END ? 0 : 1;
}
