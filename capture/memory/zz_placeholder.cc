namespace ringcap {
extern int placeholder;
int placeholder = 0;
}  // namespace ringcap
