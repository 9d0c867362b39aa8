"""The words of spoken invitation codes: short, known to everybody, no two a letter apart."""

from __future__ import annotations

_TEXT = """
acorn actor almond amber anchor angel apple april arrow aspen atlas autumn badge ballet bamboo
banana barrel basket beacon beaver bicycle biscuit blanket bottle breeze bridge bronze bucket butter
button cabin cactus camera candle canyon carbon carpet castle cedar chalk cherry chess chimney
cinema circus clover cobalt coconut coffee comet compass copper coral cotton cradle crayon cricket
crystal curtain dahlia daisy dancer denim desert diamond dinosaur dolphin dragon drum eagle earth
echo elastic elbow elephant emerald engine falcon feather fiddle finger flamingo flower forest
fossil fountain fox garden garlic gecko ghost giraffe glacier glove goblin golden grape guitar
hammer harbor hazel hedgehog helmet hero hippo honey hotel hunter iceberg igloo indigo island ivory
jacket jaguar jasmine jelly jewel jigsaw jungle kangaroo kettle kingdom kitchen kiwi koala ladder
lagoon lantern lemon leopard library lilac lion lizard lobster lotus lunch magnet magpie mango maple
marble market meadow melon mermaid mirror monkey moon muffin mushroom mustard napkin nectar needle
nickel noodle nutmeg oasis ocean octopus olive onion opera orange orchid otter oxygen oyster palace
pancake panda paper parrot peach pebble pencil penguin pepper piano pigeon pillow pirate planet poem
polar potato pumpkin puzzle quartz queen quilt rabbit radio raven ribbon river robin rocket rose
ruby saddle salmon sapphire satin school sequoia shadow shrimp silver sister snow soldier spider
spinach squirrel stadium summer sunset swan syrup table teacup temple thunder tiger timber topaz
tractor trumpet tulip tunnel turtle umbrella unicorn valley vanilla velvet violin volcano waffle
wagon walnut walrus water whale whistle window winter wolf yellow yogurt zebra zigzag zipper
"""
WORDS: tuple[str, ...] = tuple(_TEXT.split())
