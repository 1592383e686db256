#include <ctype.h>
#include <stdio.h>

int main(void)
{
    long words = 0;
    int letter, inside = 0;
    while ((letter = getchar()) != EOF) {
        words += !isspace(letter) && !inside;
        inside = !isspace(letter);
    }
    printf("%ld words\n", words);
    return 0;
}
